"""A headless Chromium for tests, without a network, driven through its DevTools pipe: real pages, real keys."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEYS = {"Tab": 9, "Space": 32, "ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "End": 35, "Home": 36}
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync --remote-debugging-pipe --force-device-scale-factor=1")  # fmt: skip


class Browser:
    """One page; ``requests`` are the addresses that it asked for, ``errors`` what its scripts threw."""

    def __init__(self, profile: Path):
        ours, theirs = os.pipe(), os.pipe()  # (read, write): answers come by the first, commands go by the second
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs[0], ours[1]))
        flags = f"{FLAGS} '--host-resolver-rules=MAP * ~NOTFOUND' '--user-data-dir={profile}'"
        command = f"exec {CHROMIUM} {flags} 3<&{read} 4>&{write}"
        self._process = subprocess.Popen(["bash", "-c", command], pass_fds=(read, write), stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)  # fmt: skip
        for end in (theirs[0], ours[1], read, write):
            os.close(end)
        self._read, self._write = os.fdopen(ours[0], "rb"), theirs[1]
        self._number, self._session, self._rest = itertools.count(1), None, b""
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters) -> dict:
        number = next(self._number)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                if not select.select([self._read], [], [], 60)[0]:
                    raise TimeoutError(f"{method}: the browser does not answer")
                part = os.read(self._read.fileno(), 1 << 16)
                if not part:
                    raise RuntimeError(f"{method}: the browser has gone")
                self._rest += part
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(answer["params"]["exceptionDetails"]["exception"]["description"])
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, address: str, width: int = 1000, height: int = 900) -> None:
        """Load a page in a window of this size and wait until it is there."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call("Page.navigate", url="about:blank")  # another hash alone would not load the page again
        self._call("Page.navigate", url=address)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def evaluate(self, script: str):
        """The value of a JavaScript expression in the page."""
        result = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def press(self, key: str, times: int = 1) -> None:
        """Press and release a key, as a keyboard does."""
        text = {"text": " "} if key == "Space" else {}
        name = " " if key == "Space" else key
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self._call(
                    "Input.dispatchKeyEvent", type=kind, key=name, code=key, windowsVirtualKeyCode=KEYS[key], **text
                )

    def close(self) -> None:
        os.close(self._write)
        self._read.close()
        self._process.terminate()
        self._process.wait(10)
