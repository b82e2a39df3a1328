"""A real browser, and what a person does with it: look at text, follow links, press buttons, fill in fields."""

import os

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from stand import wait_for

# Everything that shows itself: rows as {column: text}, whatever is hidden left out.
ROWS = """
return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map((row) => Object.fromEntries(
  [...row.cells].map((cell) => [cell.dataset.label, cell.innerText.trim()])));
"""

# The first element that shows itself and whose text, or whose name, is so. One call, however many there are.
FIND = """
const [selector, wanted, isWhole] = arguments;
return [...document.querySelectorAll(selector)].find((each) => {
  if (!each.checkVisibility({ visibilityProperty: true }) || each.getClientRects().length === 0) return false;
  const text = each.innerText.trim();
  return isWhole ? [text, each.getAttribute('aria-label')].includes(wanted) : text.includes(wanted);
}) ?? null;
"""

# What must not happen, noted from the first moment of each page.
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(
  event.effectiveDirective + ' ' + event.blockedURI + ' ' + event.sample));
window.addEventListener('error', (event) => window.violations.push(String(event.message)));
window.addEventListener('unhandledrejection', (event) => window.violations.push(String(event.reason)));
for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => window.violations.push(name);
"""


class Browser:
    def __init__(self, url, width=1280, height=900):
        self.url = url
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in (
            "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
            "--no-first-run", "--lang=en", f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.set_script_timeout(30)
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})

    def close(self):
        self.driver.quit()

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))

    def look(self, width=1280, height=900, dark=False):
        """Changes the window and the colours that the person prefers."""
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})

    # Going places.

    def open(self, address=""):
        self.driver.get(f"{self.url}/{address}")

    def go(self, address):
        """Follows a link of the console, without loading it anew."""
        self.run("location.hash = arguments[0]", address)

    def sign_in(self, token):
        self.open()
        self.field("Admin token").send_keys(token, Keys.ENTER)
        self.see("Sign out", "button")

    def sign_in_again(self, token):
        """From wherever the page is."""
        self.run("sessionStorage.clear()")
        self.open("#/overview")
        self.driver.refresh()
        self.sign_in(token)

    # Looking.

    @property
    def text(self):
        return self.run("return document.body.innerText")

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def shown(self, selector, text, is_whole=False):
        """The first visible element that has the text, or None."""
        return self.run(FIND, selector, text, is_whole)

    def see(self, text, selector="body"):
        """Waits until a visible element has the text."""
        return wait_for(f"“{text}” in {selector}", lambda: self.shown(selector, text))

    def see_gone(self, text, selector="body"):
        wait_for(f"no “{text}” in {selector}", lambda: not self.shown(selector, text))

    def rows(self, selector="main"):
        return self.run(ROWS, selector)

    def see_rows(self, what, test, selector="main"):
        """Waits until the rows are as they should be."""
        found = []

        def probe():
            found[:] = self.rows(selector)
            return test(found)
        try:
            wait_for(what, probe)
        except AssertionError as error:
            raise AssertionError(f"{error}; there are {found[:5]}") from None
        return found

    # Doing.

    def press(self, name, within="body"):
        """Clicks the button or link of that name; one that is replaced at this moment is looked for again."""
        selector = ", ".join(f"{within} {each}" for each in ("button", "a"))

        def attempt():
            found = self.shown(selector, name, is_whole=True)
            if found:
                found.click()
            return bool(found)
        wait_for(f"a button “{name}” in {within}", attempt)

    def field(self, label, within="body"):
        """The control of a label."""
        return wait_for(f"a field “{label}” in {within}", lambda: self.find(
            "#" + self.shown(f"{within} label", label, is_whole=True).get_attribute("for")))

    def fill(self, label, text, within="body"):
        control = self.field(label, within)
        control.clear()
        control.send_keys(text)
        return control

    def choose(self, label, value, within="body"):
        self.run("""
            arguments[0].value = arguments[1];
            arguments[0].dispatchEvent(new Event('change', { bubbles: true }));
        """, self.field(label, within), value)

    def confirm(self, action, reason=""):
        """Gives the reason in the open dialog and does it; waits until the dialog is gone."""
        if reason:
            self.fill("Reason", reason, "dialog")
        self.press(action, "dialog")
        wait_for(f"the dialog of {action} closes", lambda: not self.all("dialog"))

    # Judging.

    def violations(self):
        """What the page did that it must not: broken policies, errors, dialogs of the browser."""
        found = self.run("return window.violations")
        logged = [entry["message"] for entry in self.driver.get_log("browser")]
        # An answer of the API other than 2xx is logged by the browser, too; that is no fault of the page.
        return found + [each for each in logged if "Failed to load resource" not in each]
