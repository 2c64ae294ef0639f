"""The command in this process, and Chromium over its debugging pipe: real clicks and keys."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.eval.__main__ import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
]  # fmt: skip
KEYS = {"Enter": (13, "\r"), " ": (32, " "), "Tab": (9, ""), "ArrowRight": (39, ""), "End": (35, "")}
SECONDS = 60


class Chromium:
    """One browser, one page: what was asked of the network and said on the console is kept."""

    def __init__(self, profile):
        # The debugging pipe is file descriptors 3 (to read) and 4 (to write); only a shell can number them.
        down_read, self.down = os.pipe()
        self.up, up_write = os.pipe()
        command = ["bash", "-c", f'exec "$@" 3<&{down_read} 4>&{up_write}', "bash", CHROMIUM, *FLAGS]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(down_read, up_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(down_read)
        os.close(up_write)
        self.buffer, self.number, self.session = b"", 0, None
        self.requests, self.messages = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.down, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
        raise TimeoutError(method)

    def _next(self):
        while b"\0" not in self.buffer:
            found = os.read(self.up, 1 << 16)
            assert found, "chromium has ended"
            self.buffer += found
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.messages.append(parameters)
        return message

    def open(self, file, *, width=1200, height=900, scheme="light"):
        """Open a file and wait for its script; starts the lists of requests and messages anew."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.requests.clear()
        self.messages.clear()
        self.call("Page.navigate", url=file.as_uri())
        self.wait_for("location.protocol === 'file:' && document.documentElement?.dataset.ready")

    def run(self, script):
        """Value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script):
        """Until a JavaScript expression is true: a page that a click asks for comes when it comes."""
        until = time.monotonic() + SECONDS
        while not self.run(script):
            assert time.monotonic() < until, f"{script}: still not; {self.messages}"
            time.sleep(0.02)

    def press(self, key):
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            named = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type=kind, **named, **typed)

    def click(self, selector):
        """A click of the mouse in the middle of an element, scrolled into view."""
        script = f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
        script += (
            "e.scrollIntoView({block: 'center', inline: 'center'}); const r = e.getBoundingClientRect();"
        )
        script += "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        x, y = self.run(script)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def close(self):
        self.session = None
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        os.close(self.down)
        os.close(self.up)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Skips where there is no Chromium."""
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    found = Chromium(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def call():
    """`call("data.test=…", …)`: run the command in this process; its exit code."""

    def run(*arguments):
        GlobalHydra.instance().clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["uprank eval", *map(str, arguments)])
            try:
                main()
            except SystemExit as error:
                return error.code
            finally:
                GlobalHydra.instance().clear()
        return 0

    return run
