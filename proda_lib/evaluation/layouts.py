"""What the lines of the results pages are called, and where records have them."""

from __future__ import annotations

from proda_lib.evaluation.report import Key

#: Rules that hold for every table of mAP here.
RULES = ("mAP in percent; classes without positives are skipped (empty = skip), equal scores rank in the order of the "
         "videos.")  # fmt: skip

#: Line of the paper's a_t: the text does not tell which specifications it averages.
UNKNOWN = "a_t, rows not stated"

#: What is asked for is built from the test labels. Keys stand after "paper/", "rule/" or "trained/".
ASKED: dict[str, Key] = {
    "a_t, both kinds": "both/a_t",
    "a_t, distractor-injected": "distractor/a_t",
    "a_t, non-distractor": "non_distractor/a_t",
    "a_s, both kinds": "both/a_s",
    "a_s, both kinds, no-action out": "both/a_s_actions",
    "a_s, distractor-injected": "distractor/a_s",
    "a_s, non-distractor": "non_distractor/a_s",
    "a_u, both kinds": "both/a_u",
    "a_u, both kinds, no-action out": "both/a_u_actions",
}

#: No test label is used. "none" is outside of what training shows.
LABEL_FREE: dict[str, str] = {
    "a_m, no question": "a_m",
    "a_s, partition": "label_free/partition/a_s",
    "a_t, partition": "label_free/partition/a_t",
    "a_s, self (K actions, the others tie below)": "label_free/self/a_s",
    "a_s, self, the others below by a_m": "label_free/self_filled/a_s",
    "a_t, self": "label_free/self/a_t",
    "a_s, scan": "label_free/scan/a_s",
    "a_s, none (out of distribution)": "label_free/none/a_s",
    "a_t, none (out of distribution)": "label_free/none/a_t",
}
