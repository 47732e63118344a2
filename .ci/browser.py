"""The apps in a real browser: Debian's chromium, driven by Playwright, on the Voilà page that `make apps` serves and in JupyterLab.

    python .ci/browser.py [--shots FOLDER]

Moves a fader and sees the numbers change, plays and hears, drops a file, clicks and types, cancels what is being computed, searches with a file, saves an export. No console error, no request to another machine.
Exit status 0: all of it was seen. 1: something was not (each is named). 77: there is no chromium or no Playwright here, so nothing was tried.
"""
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
import importlib.util, os, re, secrets, shutil, socket, subprocess, sys, tempfile, time

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.prefix) / "bin"
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync
           --autoplay-policy=no-user-gesture-required""".split()
LABS_OWN = "Could not restore the debugger state"  # JupyterLab, when a kernel was chosen while it asked the one before
WAIT_S = 180  # for one answer on a loaded machine; an idle one needs a few seconds


def chromium():
    "Path of a chromium, or None"
    return next(filter(None, map(shutil.which, [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"])), None)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def recording(folder):
    "12 s of noise bursts and a tone, as a file of 14 MB: larger than one message to a server may be"
    import numpy as np, soundfile
    rate, r = 192_000, np.random.default_rng(0)
    t = np.arange(12 * rate) / rate
    x = .3 * np.exp(-12 * (t % .5)) * r.standard_normal(len(t)) + .2 * np.sin(2 * np.pi * 98 * t) * (t % 2 < 1)
    soundfile.write(folder / "bursts <1>.wav", np.stack([x, x], 1).clip(-1, 1), rate, subtype="PCM_24")
    return folder / "bursts <1>.wav"


def long_recording(folder):
    "40 minutes of a tone and noise: long enough to press Cancel while it is analysed"
    import numpy as np, soundfile
    minute = .2 * np.sin(2 * np.pi * 220 * np.arange(60 * 8000) / 8000) + .02 * np.random.default_rng(1).standard_normal(60 * 8000)
    with soundfile.SoundFile(folder / "long.wav", "w", 8000, 1, "PCM_16") as f:
        for _ in range(40):
            f.write(minute)
    return folder / "long.wav"


class Page:
    "A browser page that remembers what must not happen"
    def __init__(self, page, shots):
        self.page, self.shots, self.problems = page, shots, []
        page.set_default_timeout(1000 * WAIT_S)
        page.on("console", lambda m: m.type == "error" and not re.search(LABS_OWN, m.text) and self.problems.append(f"console error: {m.text[:300]} ({m.location.get('url', '')})"))
        page.on("pageerror", lambda e: self.problems.append(f"error in the page: {e}"))
        page.on("request", lambda r: self.local(r.url))
        page.on("websocket", lambda w: self.local(w.url))

    def local(self, url):
        "Note a request that leaves this machine"
        if not re.match(r"(?:https?|ws)://127\.0\.0\.1[:/]|(?:data|blob|about):", url):
            self.problems.append(f"asks another machine: {url}")

    def expect(self, holds, what):
        if not holds:
            self.problems.append(what)

    def shot(self, name):
        "Keep a picture of the page"
        if self.shots:
            self.page.screenshot(path=self.shots / f"{name}.png", full_page=True)

    def column(self, name):
        "A column of the mixer's table as one text"
        return "|".join(self.page.locator(f"td[data-of={name}]").all_text_contents())

    def heard(self, what):
        "The player runs, and what comes out of it is not silence"
        where, loud = self.page.locator(".imtl-player:visible output").all()[:2]
        loud.filter(has_text="dBFS").wait_for()
        seconds, levels = [], []
        for _ in range(6):
            seconds.append(float(where.inner_text().split()[0]))
            levels.append(loud.inner_text())
            self.page.wait_for_timeout(150)
        self.expect(len(set(seconds)) > 2 and any(x.endswith("dBFS") for x in levels), f"{what}: the player was at {seconds} s and showed {levels}")


def cancel(p, path, what):
    "A long recording is named and cancelled midway: the page says so at once, shows what it showed before, and is ready"
    page = p.page
    said = page.locator("[role=status]:visible, .imtl-error:visible")
    shown = lambda: (page.locator(".imtl-picture:visible img").get_attribute("src"), page.locator(".imtl-player:visible output").first.inner_text().split("/")[1],
                     page.locator(".imtl-near:visible option").all_text_contents(), page.locator("a[download]:visible").all_text_contents(), page.locator(".imtl-ring:visible").count())
    before, field = shown(), page.get_by_placeholder("an audio file on this machine").locator("visible=true")
    field.fill(str(path))
    field.press("Enter")
    for turn in ("first", "second"):  # Enter once more, with the same path, begins again
        button = page.get_by_role("button", name="Cancel").locator("visible=true")
        page.wait_for_function("[...document.querySelectorAll('.progress-bar, .widget-progress .progress-bar')].some(e => e.checkVisibility() && parseFloat(e.style.width) > 3)")
        if turn == "first":
            p.shot(f"{what}, computing")
        button.click()
        page.wait_for_function("[...document.querySelectorAll('[role=status]')].some(e => e.checkVisibility() && /Stopping|Cancelled/.test(e.textContent))", timeout=5000)
        said.filter(has_text="Cancelled").wait_for()
        p.expect(button.is_disabled(), f"{what}: the Cancel button can be pressed after the job has ended")
        p.expect(shown() == before, f"{what}: after Cancel the page shows {shown()}, before {before}")
        if turn == "first":
            field.press("Enter")
    p.shot(f"{what}, cancelled")


ANSWERED = "[...document.querySelectorAll('td[data-of=error]')].some(e => /\\d/.test(e.textContent))"  # the mixer shows how far the model is off


def mixer(p):
    "A fader moves the truth and the model's answer while the mix plays on; mute and solo are buttons"
    page, answered = p.page, ANSWERED
    page.wait_for_function(answered)
    page.locator(".imtl-player button:visible").click()
    p.heard("mixer")
    before, faders = {c: p.column(c) for c in ("true_level", "presence", "level")}, page.locator(".noUi-handle[aria-orientation=vertical]")
    faders.first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    p.expect(float(faders.first.get_attribute("aria-valuenow")) == -15, f"30 steps of half a dB took the fader to {faders.first.get_attribute('aria-valuenow')} dB")
    page.wait_for_function("old => [...document.querySelectorAll('td[data-of=true_level]')].map(e => e.textContent).join('|') != old", arg=before["true_level"])
    page.wait_for_function(answered)
    page.wait_for_timeout(200)
    page.wait_for_function(answered)
    for c, old in before.items():
        p.expect(p.column(c) != old, f"the fader moved by 15 dB, but the column {c} stayed {old}")
    p.heard("mixer, after the fader")
    p.shot("mixer")
    page.get_by_role("button", name="M", exact=True).first.click()
    page.get_by_role("button", name="S", exact=True).first.click()  # the only one soloed is muted: nothing is left
    page.wait_for_function("[...document.querySelectorAll('td[data-of=true_presence]')].every(e => e.textContent == 'no')")
    page.wait_for_function("[...document.querySelectorAll('.imtl-player output')].some(o => o.checkVisibility() && o.textContent == 'silence')")
    page.locator(".imtl-player button:visible").click()


def timeline(p, path, long, drop):
    "A recording is dropped or named; a click and the keyboard play from there; the events are saved"
    page = p.page
    page.get_by_role("tab", name="Timeline").click()
    wrong = page.get_by_placeholder("an audio file on this machine").locator("visible=true")
    wrong.fill("/nowhere/song.wav")
    wrong.press("Enter")
    page.wait_for_selector(".imtl-error:has-text('There is no file'):visible")
    if drop:
        page.locator(".imtl-drop input").first.set_input_files(path)
    else:
        wrong.fill(str(path))
        wrong.press("Enter")
    picture = page.locator(".imtl-picture:visible")
    picture.locator("img:not([hidden])").wait_for()
    page.get_by_role("link", name=".events.csv").wait_for()
    box = picture.bounding_box()
    page.mouse.click(box["x"] + .5 * box["width"], box["y"] + .7 * box["height"])
    p.heard("timeline")
    at = float(page.locator(".imtl-player:visible output").first.inner_text().split()[0])
    p.expect(4 < at < 12, f"a click into the middle of 12 s plays at {at} s")
    page.keyboard.press("Home")
    page.wait_for_function("[...document.querySelectorAll('.imtl-player')].some(e => e.checkVisibility() && parseFloat(e.querySelector('output').textContent) < 3 && e.textContent.includes('Pause'))")
    page.keyboard.press(" ")
    page.locator(".imtl-player button:visible:has-text('Play')").wait_for()
    old = picture.locator("img").get_attribute("src")
    page.get_by_role("button", name="spectrogram").click()
    page.wait_for_function("old => [...document.querySelectorAll('.imtl-picture img')].some(i => i.checkVisibility() && i.src != old)", arg=old)
    with page.expect_download() as saved:
        page.get_by_role("link", name=".events.csv").click()
    header = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()[0]
    p.expect(header == "instrument,start_s,end_s,confidence", f"the saved events begin with {header!r}")
    page.wait_for_timeout(300)
    p.shot("timeline")
    cancel(p, long, "timeline")
    old = picture.locator("img").get_attribute("src")
    page.get_by_role("button", name="waveform").click()  # still usable
    page.wait_for_function("old => [...document.querySelectorAll('.imtl-picture img')].some(i => i.checkVisibility() && i.src != old)", arg=old)


def explorer(p, path, long):
    "A click into the map plays a sound and lists neighbours; a key goes to the next; brighter ones are brighter; one's own file has neighbours"
    page = p.page
    page.get_by_role("tab", name="Timbre explorer").click()
    picture = page.locator(".imtl-picture:visible")
    picture.locator("img:not([hidden])").wait_for()
    box = picture.bounding_box()
    page.mouse.click(box["x"] + .45 * box["width"], box["y"] + .5 * box["height"])
    page.wait_for_selector(".imtl-near option", state="attached")
    p.heard("timbre explorer")
    name = page.locator("b:has-text('Sounds like')").inner_text()
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        page.wait_for_timeout(300)
    page.wait_for_function("old => [...document.querySelectorAll('b')].some(b => b.textContent.startsWith('Sounds like') && b.textContent != old)", arg=name)
    page.locator(".noUi-handle:visible").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("[...document.querySelectorAll('.imtl-near option')].every(o => /brightness\\s\\+/.test(o.textContent))")
    p.shot("timbre")
    page.locator(".noUi-handle:visible").first.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("[...document.querySelectorAll('.imtl-near option')].every(o => !/brightness/.test(o.textContent))")
    before = page.locator(".imtl-near option").all_text_contents()
    page.locator(".imtl-drop:visible input").set_input_files(path)
    page.locator(f"b:has-text('Sounds like {path.name}')").wait_for()
    page.wait_for_selector("[role=status]:has-text('read from the mix by the model'):visible")
    after = page.locator(".imtl-near option").all_text_contents()
    p.expect(len(after) == len(before) and after != before, f"the neighbours of an own file are {after}, those of a sound of the collection {before}")
    p.expect(page.locator(".imtl-ring.query:visible").count() == 1, "the place of an own file is not marked on the map")
    page.locator(".imtl-player button:visible").click()
    p.heard("timbre explorer, own file")
    p.expect(page.locator(".imtl-player:visible output").first.inner_text().split("/")[1].strip() == "12.0 s", "the player does not hold the own file")
    p.shot("timbre, own file")
    page.locator(".imtl-player button:visible").click()
    cancel(p, long, "timbre explorer")
    page.mouse.click(box["x"] + .45 * box["width"], box["y"] + .5 * box["height"])  # still usable
    page.locator(f"b:has-text('Sounds like {path.name}')").wait_for(state="detached")
    p.heard("timbre explorer, after Cancel")


def start(command, folder, log, **env):
    "A server, in this process group"
    quiet = {f"JUPYTER_{k}_DIR": str(folder / k.lower()) for k in ("CONFIG", "RUNTIME")} | {"IPYTHONDIR": str(folder / "ipython"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "ws"), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "JUPYTER_PREFER_ENV_PATH": "1", **quiet, **env}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=open(log, "w"), stderr=subprocess.STDOUT)


def wait_for(port, server, log):
    "Until a server listens"
    for _ in range(2 * WAIT_S):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(.5)
        if server.poll() is not None:
            break
    raise RuntimeError(f"nothing listens at port {port}\n" + "\n".join(Path(log).read_text().splitlines()[-15:]))


def elsewhere(port):
    "The address other than loopback at which a server answers too, or None"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's own address, if it has one
            address = s.getsockname()[0]
            socket.create_connection((address, port), timeout=2).close()
            return address
        except OSError:
            return None


def in_voila(p, url, path, long):
    "The page of `make apps`"
    from playwright.sync_api import TimeoutError as Timeout
    p.page.goto(url)
    try:
        p.page.wait_for_function(ANSWERED, timeout=1000 * WAIT_S // 2)
    except Timeout:  # seen once in many runs: a page that never hears from its kernel; a person would load it again
        print(f"Voilà: no answer within {WAIT_S // 2} s, the page is loaded once more", flush=True)
        p.page.reload()
    mixer(p), timeline(p, path, long, drop=True), explorer(p, path, long)


def in_lab(p, url, path, long):
    "The same notebook in JupyterLab"
    from playwright.sync_api import TimeoutError as Timeout
    page = p.page
    page.goto(url)
    prompt, asks = page.locator(".jp-CodeCell .jp-InputPrompt").first, page.locator(".jp-Dialog button.jp-mod-accept")
    prompt.wait_for()
    for _ in range(WAIT_S // 2):  # a notebook that is faster than its kernel ignores the keys, or asks which one is meant
        if prompt.inner_text().strip() not in ("[ ]:", ""):
            break
        with suppress(Timeout):  # the question can come at any moment, and lies over the cell
            if asks.is_visible():
                asks.click(timeout=5000)
            elif page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").count():
                page.locator(".jp-CodeCell .cm-content").first.click(timeout=5000)
                page.keyboard.press("Control+Enter")
        page.wait_for_timeout(2000)
    mixer(p), timeline(p, path, long, drop=False), explorer(p, path, long)


def main():
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    parser.add_argument("--only", choices=["Voilà", "JupyterLab"], help="one of the two")
    args = parser.parse_args()
    program = chromium()
    missing = [w for w, there in (("chromium (Debian: apt-get install chromium)", program), ("the Python package playwright", importlib.util.find_spec("playwright"))) if not there]
    if missing:
        print(f"skipped: {' and '.join(missing)} not found, so the apps were not tried in a browser")
        return 77
    from playwright.sync_api import sync_playwright
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
    problems = []
    with tempfile.TemporaryDirectory(prefix="instrument_mtl-browser-") as folder:
        folder = Path(folder)
        (folder / "notebooks").mkdir()
        shutil.copyfile(ROOT / "nbs" / "app.ipynb", folder / "notebooks" / "app.ipynb")
        path, long, token, ports = recording(folder), long_recording(folder), secrets.token_hex(8), [free_port(), free_port()]
        ours = {"JUPYTER_PATH": os.pathsep.join(filter(None, [str(ROOT / ".ci"), os.environ.get("JUPYTER_PATH")])), "JUPYTER_CONFIG_PATH": str(ROOT / ".ci")}  # as in the Makefile
        voila = ["voila", "nbs/app.ipynb", "--no-browser", f"--port={ports[0]}"]
        lab = ["jupyter-lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={ports[1]}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder / 'notebooks'}",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None"]
        places = {"Voilà": (in_voila, ports[0], voila, f"http://127.0.0.1:{ports[0]}/", ours),
                  "JupyterLab": (in_lab, ports[1], lab, f"http://127.0.0.1:{ports[1]}/lab/tree/app.ipynb?token={token}", {})}
        places = {name: p for name, p in places.items() if args.only in (None, name)}
        servers = {name: start(command, folder / name, folder / f"{name}.log", **env) for name, (_, _, command, _, env) in places.items()}
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch_persistent_context(folder / "profile", executable_path=program, headless=True, args=FLAGS, viewport={"width": 1200, "height": 1100})
                for name, (walk, port, _, url, _) in places.items():
                    began, p = time.monotonic(), Page(browser.new_page(), args.shots and args.shots / name)
                    try:
                        wait_for(port, servers[name], folder / f"{name}.log")
                        p.expect(not elsewhere(port), f"can be reached from other machines, at {elsewhere(port)}")
                        walk(p, url, path, long)
                    except Exception as error:
                        p.problems.append(f"{type(error).__name__}: {str(error)[:600]}")
                        p.shot("problem")
                    p.page.close()
                    print(f"{name}: {time.monotonic() - began:.0f} s, {len(p.problems)} problems", flush=True)
                    problems += [f"{name}: {x}" for x in p.problems]
                browser.close()
        finally:
            for server in servers.values():
                server.terminate()
            for server in servers.values():
                try:
                    server.wait(15)
                except subprocess.TimeoutExpired:
                    server.kill()
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
