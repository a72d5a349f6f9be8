"""A headless Chromium, with every request it makes on record."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SAMPLE = Path(__file__).parents[1] / "unit" / "report" / "sample.py"
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to start as root with it, as in a container
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",  # so that a width asked for is the width the page has
)


def pytest_collection_modifyitems(items):
    """Mark every test of this folder, so that `-m "not browser"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def samples():
    """The module `tests/unit/report/sample.py`."""
    spec = importlib.util.spec_from_file_location("report_sample", SAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


CONTRASTS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgb = colour => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = colour => {
  const [r, g, b] = colour.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return rgb(matchMedia('(prefers-color-scheme: dark)').matches ? '#000' : '#fff');
};
const poor = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim()) continue;
  seen += 1;
  const style = getComputedStyle(element);
  const ink = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
  const [a, b] = [light(rgb(ink)), light(ground(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
}
return [seen, [...poor]];
"""


@pytest.fixture(scope="session")
def contrasts():
    """Script that returns how many texts a page shows, and those below 4.5 to 1."""
    return CONTRASTS


class Browser:
    """Chromium, driven through selenium, with the questions the tests ask."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, *, width=1280, scheme="light"):
        """Open a file at this viewport width and colour scheme; what was logged before is gone."""
        self.set_scheme(scheme)
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.driver.get("about:blank")
        self.console(), self.requests()
        self.driver.get(path.as_uri())

    def set_scheme(self, scheme, media=""):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", media=media, features=features)

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def console(self):
        """Messages of the console since the last call: errors, blocked content."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Addresses of all requests since the last call, from the network events."""
        events = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        sent = (e for e in events if e["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """One Chromium for all tests."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver on the PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Browser(driver)
    driver.quit()
