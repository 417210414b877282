"""`report`: the page in a real browser, which is asked what it shows and what it loaded."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Refuses, done_here, project_in, rows_here
from mounting import Mounted
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from lighthousefs.domain.commands import CloseVersion, CreateFile, Write

EVIL = b"<script>document.title='caught'</script>&amp;\n\xff \x1b[31m \xe2\x80\xae"
PAGE_BYTES_MAX = 5_000_000
HANG_SECONDS = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,1600", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # The driver is asked for by name, or it would be looked for on the net.
    service = ChromeService(executable_path="/usr/bin/chromedriver")
    options.binary_location = "/usr/bin/chromium"
    with Chrome(options=options, service=service) as driver:
        yield driver


class Page:
    """A report, open in the browser."""

    def __init__(self, browser: Chrome, file: Path) -> None:
        self._browser = browser
        # Ends what the browser's own start page still loads, and what it has to say.
        browser.get("about:blank")
        for kind in ("performance", "browser"):
            browser.get_log(kind)  # type: ignore[no-untyped-call]
        browser.get(file.as_uri())
        WebDriverWait(browser, HANG_SECONDS).until(lambda it: it.execute_script("return document.body.dataset.ready"))

    def requested(self) -> list[str]:
        """All that the browser asked anybody for since it opened the page."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        # The browser's own start page may still be loading.
        return [
            one["request"]["url"] for one in sent if not one["documentURL"].startswith(("chrome:", "chrome-untrusted:"))
        ]

    def complaints(self) -> list[dict[str, Any]]:
        return self._log("browser")

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self._browser.get_log(kind))  # type: ignore[no-untyped-call]

    def text(self, selector: str) -> str:
        return self._browser.find_element(By.CSS_SELECTOR, selector).text

    def texts(self, selector: str) -> list[str]:
        return list(self.do(f"return Array.from(document.querySelectorAll({selector!r}), (found) => found.innerText)"))

    def click(self, selector: str) -> None:
        self._browser.find_element(By.CSS_SELECTOR, selector).click()

    def do(self, script: str) -> Any:
        return self._browser.execute_script(script)


def reported(store: Path, file: Path, *arguments: str) -> Path:
    done_here("report", store, file, *arguments)
    return file


def test_it_shows_every_change_and_asks_nobody_for_anything(tmp_path: Path, browser: Chrome) -> None:
    with Mounted(tmp_path) as mounted:
        (mounted.current / "lamp.py").write_text("PERIOD = 10\nprint(PERIOD)\n")
        (mounted.current / "sub").mkdir()
        (mounted.current / "lamp.py").write_text("PERIOD = 8\nprint(PERIOD)\n")
        (mounted.current / "lamp.py").rename(mounted.current / "sub" / "lamp.py")
        (mounted.current / "link").symlink_to("sub/lamp.py")
        before = mounted.newest()
        (mounted.current / "link").unlink()
        file = reported(mounted.mount_point, tmp_path / "report.html")
        wanted = rows_here("log", mounted.mount_point)
        page = Page(browser, file)
        assert page.texts("#changes .seq") == [f"@{row['seq']}" for row in wanted]
        assert page.requested() == [file.as_uri()]
        assert page.complaints() == []

        page.do("document.querySelector('#changes li:nth-child(1) .row').click()")
        command = page.text("#changes .more code")
        assert command == f"lighthousefs restore {mounted.mount_point} link --at @{before}"
        done_here(*command.split()[1:])
        assert os.readlink(mounted.current / "link") == "sub/lamp.py"
        made = next(number for number, row in enumerate(wanted, 1) if row["type"] == "directory-created")
        page.click(f"#changes li:nth-child({made}) .row")
        assert page.text(f"#changes li:nth-child({made}) code").startswith(f"lighthousefs undo {mounted.mount_point} ")
        written = next(number for number, row in enumerate(wanted, 1) if row["type"] == "version-closed")
        page.click(f"#changes li:nth-child({written}) .row")
        diff = page.texts(f"#changes li:nth-child({written}) pre span")
        assert {"-PERIOD = 10", "+PERIOD = 8"} <= set(diff)
        page.click(f"#changes li:nth-child({written}) .row")
        assert page.texts(f"#changes li:nth-child({written}) pre") == []


def test_the_line_that_takes_a_change_back_takes_nothing_else(tmp_path: Path, browser: Chrome) -> None:
    """Files that were made in two folders in turn; what is of the store alone is no file and is not brought back."""
    with Mounted(tmp_path) as mounted:
        for name in ("a", "b"):
            (mounted.current / name).mkdir()
        for number in range(4):
            for name in ("a", "b"):
                (mounted.current / name / str(number)).write_text("made in turn")
        (mounted.current / "b").rename(mounted.current / "c")
        page = Page(browser, reported(mounted.mount_point, tmp_path / "report.html"))
        wanted = rows_here("log", mounted.mount_point)
        assert not {".", str(mounted.mount_point)} & set(page.texts("#heat .name"))
        for number, row in enumerate(wanted, 1):
            page.do(f"document.querySelector('#changes li:nth-child({number}) .row').click()")
            assert bool(page.texts(f"#changes li:nth-child({number}) code")) == ("path" in row), row
        renamed = next(number for number, row in enumerate(wanted, 1) if "new_path" in row)
        made = next(number for number, row in enumerate(wanted, 1) if (row["path"], row.get("files")) == ("a", 4))
        for place in (renamed, made):
            (line,) = page.texts(f"#changes li:nth-child({place}) code")
            for command in line.split("; "):
                done_here(*command.split()[1:])
        assert [len(list((mounted.current / name).glob("*"))) for name in ("a", "b")] == [0, 4]


def test_on_a_small_screen_the_whole_path_is_read(tmp_path: Path, browser: Chrome) -> None:
    done_here("init", tmp_path / "store")
    with project_in(tmp_path / "store") as project:
        project.echo(b"x", b"name_" * 30)
    before = browser.get_window_size()
    browser.set_window_size(500, 900)
    try:
        page = Page(browser, reported(tmp_path / "store", tmp_path / "report.html"))
        box = "document.querySelector('#changes .path')"
        assert page.do(f"return {box}.scrollWidth <= {box}.clientWidth && {box}.clientHeight > 25")
        assert page.do("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.set_window_size(before["width"], before["height"])


def test_a_window_of_time_shows_what_lies_in_it(tmp_path: Path, browser: Chrome) -> None:
    """Chosen with the mouse on the timeline: the list and the heat map follow."""
    done_here("init", tmp_path / "store")
    with project_in(tmp_path / "store") as project:
        clock = project.engine.clock
        began = clock.now()
        for number in range(100):
            clock._last = began + number * 60 * 10**9
            project.echo(b"x", b"file-%d" % number)
    page = Page(browser, reported(tmp_path / "store", tmp_path / "report.html"))
    everything = page.texts("#changes .where")
    page.do("""
        const canvas = document.getElementById("timeline"), box = canvas.getBoundingClientRect();
        const at = (part) => ({ bubbles: true, pointerId: 1, clientX: box.left + 110 + part * (box.width - 118),
                                clientY: box.top + 5 });
        canvas.setPointerCapture = () => {};
        for (const [kind, part] of [["down", 0.503], ["move", 0.6], ["move", 0.753], ["up", 0.753]])
            canvas.dispatchEvent(new PointerEvent(`pointer${kind}`, at(part)));
    """)
    chosen = page.texts("#changes .where")
    assert 20 <= len(chosen) <= 30
    start = everything.index(chosen[0])
    assert chosen == everything[start : start + len(chosen)]
    assert set(page.texts("#heat .name")) == set(chosen)
    page.do("document.getElementById('forth').click()")
    moved = page.texts("#changes .where")
    assert everything.index(moved[0]) < start
    page.do("document.getElementById('all').click()")
    assert page.texts("#changes .where") == everything
    page.do("const it = document.getElementById('filter'); it.value = 'FILE-7'; it.dispatchEvent(new Event('input'))")
    assert sorted(page.texts("#changes .where")) == sorted(path for path in everything if path.startswith("file-7"))


def test_names_and_contents_are_text_whatever_they_are(tmp_path: Path, browser: Chrome) -> None:
    name = EVIL.replace(b"/", b"|")
    done_here("init", tmp_path / "store")
    with project_in(tmp_path / "store") as project:
        ino = project.echo(b"x", name)
        project.echo(b"old\n</script><script>document.title='caught'</script>\n<b>bold</b>\n", b"plain")
        first = project.write(ino, b"y")
        project.do(CloseVersion(ino, first, 1, "close"))
    file = reported(tmp_path / "store", tmp_path / "report.html")
    page = Page(browser, file)
    shown = page.texts("#changes .where")
    assert any(
        "<script>document.title='caught'<|script>&amp;\\u000a\\xff \\u001b[31m \\u202e" in path for path in shown
    )
    page.click("#changes li:nth-child(2) .row")
    assert any("</script><script>" in line for line in page.texts("pre span"))
    page.click("#changes li:nth-child(1) .row")
    assert page.do("return document.title") == "store: what happened"
    assert page.do("return document.scripts.length") == 2
    assert page.complaints() == []
    # The line that brings it back is the name's very bytes to a shell.
    (quoted,) = [
        line.split(" --at ")[0].split(" restore ")[1] for line in page.texts("#changes .more code") if "$'" in line
    ]
    printed = subprocess.run(
        ["bash", "-c", f"printf %s {quoted.partition(' ')[2]}"], capture_output=True, check=True
    ).stdout
    assert printed == name


def test_a_hundred_thousand_events_make_a_page_of_less_than_5_mb(tmp_path: Path, browser: Chrome) -> None:
    done_here("init", tmp_path / "store")
    with project_in(tmp_path / "store") as project:
        for number in range(100):
            project.echo(b"line %d\n" % number * 50, b"file-%d" % number)
        engine = project.engine
        inos = [entry.ino for entry in engine.at(engine.last_seq).children(2)]
        while engine.last_seq < 100_000:
            batch: list[Any] = [CreateFile(2, b"n%d-%d" % (engine.last_seq, n), 0o644, 0, 0) for n in range(500)]
            batch += [Write(ino, 0, b"%d %d" % (engine.last_seq, ino), False, 0) for ino in inos]
            project.by_another()
            engine.submit_batch(batch, project.author)
    file = reported(tmp_path / "store", tmp_path / "report.html")
    assert file.stat().st_size < PAGE_BYTES_MAX
    page = Page(browser, file)
    assert page.text("#count").endswith(" in the window")
    assert page.requested() == [file.as_uri()]


def test_only_what_was_asked_for_is_in_it(tmp_path: Path, browser: Chrome) -> None:
    done_here("init", tmp_path / "store")
    with project_in(tmp_path / "store") as project:
        folder = project.make_folder(b"sub")
        project.echo(b"x", b"inside", folder)
        since = project.engine.last_seq
        project.echo(b"x", b"later", folder)
        project.echo(b"x", b"outside")
    page = Page(browser, reported(tmp_path / "store", tmp_path / "report.html", "sub", "--since", f"@{since}"))
    assert page.texts("#changes .where") == ["sub/later"]
    page = Page(
        browser, reported(tmp_path / "store", tmp_path / "none.html", "--since", f"@{since + 6}", "--until", "now")
    )
    assert page.texts("#changes .where") == []
    assert page.complaints() == []


def test_what_cannot_be_written_is_told_and_a_page_that_was_there_stays(tmp_path: Path, refuses: Refuses) -> None:
    done_here("init", tmp_path / "store")
    store = tmp_path / "store"
    refuses("report", store, tmp_path, status=1, words="is a folder")
    refuses("report", store, tmp_path / "no" / "report.html", status=1, words="no folder")
    page = tmp_path / "report.html"
    page.write_text("as it was")
    refuses("report", store, page, "--since", "@999", status=1, words="the newest is")
    assert page.read_text() == "as it was"
    assert os.listdir(tmp_path).count("report.html") == 1
