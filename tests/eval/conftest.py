"""The command in this process, Chromium over its debugging pipe (real clicks and keys), and pages to read."""

import contextlib
import json
import math
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.eval.__main__ import main
from uprank.eval.results import Comparison, Estimate, Report, System

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
]  # fmt: skip
KEYS = {"Enter": (13, "\r"), " ": (32, " "), "Tab": (9, ""), "ArrowRight": (39, ""), "End": (35, "")}
SECONDS = 120
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Navigated(Exception):
    """The page was left while it was asked."""


class Chromium:
    """One browser with one page; keeps the requests and the console messages."""

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
        while (answer := self._next(until)).get("id") != self.number:
            pass
        if "navigated" in answer.get("error", {}).get("message", ""):
            raise Navigated(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self, until):
        while b"\0" not in self.buffer:
            assert select.select([self.up], [], [], max(0, until - time.monotonic()))[0], "chromium is silent"
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
        """Open a file, wait for its script, and clear the requests and messages before."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._mouse("mouseMoved", 0, 0)  # nothing of the page lies under it
        self.run("document.left = true")  # the answer to Page.navigate may come before the new page does
        self.requests.clear()
        self.messages.clear()
        self.call("Page.navigate", url=file.as_uri())
        # Until it has been painted, Chromium throws clicks and keys away.
        self.wait_for("!document.left && document.documentElement?.dataset.ready"
                      " && performance.getEntriesByName('first-paint').length")  # fmt: skip

    def run(self, script):
        """Return the value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script):
        """Wait until a JavaScript expression is true, for example until a page has come."""
        until = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(Navigated):  # the page was left while it was asked
                if self.run(script):
                    return
            assert time.monotonic() < until, f"{script}: still not; {self.messages}"
            time.sleep(0.02)

    def press(self, key):
        """Press and release a key; like `click`, return when the page has handled both."""
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            named = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type=kind, **named, **typed)

    def click(self, selector):
        """Scroll an element into view and click its middle."""
        script = f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
        script += (
            "e.scrollIntoView({block: 'center', inline: 'center'}); const r = e.getBoundingClientRect();"
        )
        script += "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        x, y = self.run(script)
        self._mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self._mouse(kind, x, y, button="left", clickCount=1)

    def _mouse(self, kind, x, y, **button):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def close(self):
        self.session = None
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        os.close(self.down)
        os.close(self.up)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """The browser; skip without Chromium."""
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    found = Chromium(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def call():
    """Run the command in this process: `call("data.test=…", …)` returns the exit code."""

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


class Html(HTMLParser):
    """Check the nesting; collect tags, attributes and the text that a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == [], "unclosed elements"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data.replace("\u00a0", " ")


def make_system(name, value, kind="model"):
    results = {"nDCG@10": Estimate(value, value - 0.03, value + 0.03)}
    return System(name, kind, f"runs/{name}", f"sha256:{name}-weights", results, 1200, 12, 0, 4.0, "fp32")


def make_page_report(queries=120, name="tuned", **changes):
    before = {f"q{i}": 1 / math.log2(2 + i % 9) for i in range(queries)}
    after = {q: min(1.0, max(0.0, v + 0.3 * math.sin(int(q[1:])))) for q, v in before.items()}
    systems = [make_system("bm25", 0.6, "first_stage"), make_system("base", 0.67), make_system(name, 0.712)]
    comparisons = [
        Comparison("bm25", "base", "nDCG@10", -0.07, -0.1, -0.04, 0.0004, 20, 30, 70),
        Comparison(name, "base", "nDCG@10", 0.042, 0.018, 0.066, 0.0012, 62, 30, 28),
    ]
    values = Report(
        "2025-01-20T14:03:11+00:00", "0.1.0", "uprank eval data.test=claims", "claims/test.jsonl",
        "sha256:data-fingerprint", queries, ["q7"], [], "bm25", 100, 0.912, ["nDCG@10"], "base", systems,
        comparisons, per_query={"nDCG@10": {"base": before, name: after}},
    )  # fmt: skip
    return replace(values, **changes)


@pytest.fixture(scope="session")
def read_html():
    """`read_html(text)`: `tags`, `attributes` and the `text` of a well-formed page."""
    return Html


@pytest.fixture(scope="session")
def html_system():
    """`html_system(name, value, kind="model")` of a report."""
    return make_system


@pytest.fixture(scope="session")
def html_report():
    """`html_report(queries=120, name="tuned", **changes)`: three systems, two comparisons, every query."""
    return make_page_report
