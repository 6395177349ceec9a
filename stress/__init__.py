"""Bad input, sudden death and full disks, made on purpose: what the tests and ``workflow/reliability.py`` throw at the
library. Nothing here is part of the library, and nothing in the library imports it."""
