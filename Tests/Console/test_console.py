"""The web console in a real browser, over a real node with real devices and real traffic.

Each test says what a person does and sees, and what the admin API says of it. They run in the order of their
names; the last ones take the database and the node away."""

import json
import os
import pathlib
import unittest

from browser import Browser
from selenium.webdriver.common.keys import Keys
from stand import Stand, wait_for

HERE = pathlib.Path(__file__).parent
HOSTILE = '"><img src=x onerror=alert(1)>'
SCRIPT = "<script>alert(1)</script>"
REORDERED = "safe\u202etxt.exe"
SEEDED = 10_000

# A node that is down, with a device that it took along; many devices that were there once; one that alone is both
# early and late, for a search that goes through long stretches without a match.
SEED = f"""
INSERT INTO pop.nodes
    (node_id, incarnation, state, location, wss_port, quic_port, version, started_at, last_seen_at)
VALUES ('pop-dead', gen_random_uuid(), 'active', 'far', 443, 443, '0', now() - interval '1 day',
    now() - interval '1 hour');
INSERT INTO pop.devices (device_id, location, tags, bytes_sent, connected_at)
SELECT 'seed-' || lpad(number::text, 5, '0'), CASE WHEN number <= 5000 THEN 'early' ELSE 'loc' END,
    ARRAY[CASE WHEN number > 5000 THEN 'late' ELSE 'seeded' END, 'group-' || number % 100], number * 1000,
    now() - number * interval '1 second'
FROM generate_series(1, {SEEDED}) number;
INSERT INTO pop.devices (device_id, status, node_id, session_id, health, connected_at)
VALUES ('stranded', 'online', 'pop-dead', gen_random_uuid(), 'whole', now() - interval '2 hours');
INSERT INTO pop.devices (device_id, location, tags) VALUES ('seed-rare', 'early', '{{late}}');
ANALYZE pop.devices;
"""


class ConsoleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stand = Stand(os.environ["POP_PROGRAMS"])
        cls.addClassCleanup(lambda: cls.stand.close(show_logs=cls.has_failed))
        cls.has_failed = False
        cls.stand.sql(SEED)
        cls.stand.start_device("dev-1", tags=["mobile", SCRIPT, REORDERED])
        cls.stand.start_device("dev-2", location=HOSTILE)
        cls.browser = Browser(f"http://127.0.0.1:{cls.stand.relay.port}")
        cls.addClassCleanup(cls.browser.close)
        cls.browser.sign_in(cls.stand.token)

    def setUp(self):
        self.clients = []

    def tearDown(self):
        outcome = self._outcome.result
        if any(test is self for test, _ in outcome.failures + outcome.errors):
            type(self).has_failed = True
            folder = os.environ.get("POP_SCREENSHOTS")
            if folder:
                self.browser.screenshot(pathlib.Path(folder) / f"{self._testMethodName}.png")
            # What is still open is in the way of no other test.
            self.browser.sign_in_again(self.stand.token)
        for client in self.clients:
            client.close()
        self.assertEqual(self.browser.violations(), [])

    def connect(self, user=None):
        client = self.stand.client(user)
        client.move()
        self.clients.append(client)
        return client

    # Signing in and out.

    def test_01_parts_do_as_they_say(self):
        script = (HERE / "units.js").read_text(encoding="utf8")
        failures = self.browser.driver.execute_async_script(
            script + "\nrun().then(arguments[0], (error) => arguments[0]([String(error)]));")
        self.assertEqual(failures, [])

    def test_02_only_a_good_token_signs_in(self):
        page = self.browser
        page.press("Sign out")
        page.see("The first token is in")
        self.assertIsNone(page.run("return sessionStorage.getItem('pop.token')"))
        page.field("Admin token").send_keys(Keys.ENTER)
        page.see("A token is needed")
        page.fill("Admin token", "no token").send_keys(Keys.ENTER)
        page.see("This can't be a token")
        page.fill("Admin token", "wrong").send_keys(Keys.ENTER)
        box = page.see("The bearer token is not valid", ".box")
        self.assertIn("invalid_token", box.text)
        self.assertIn("Request", box.text)
        page.fill("Admin token", self.stand.token).send_keys(Keys.ENTER)
        page.see("Overview", "h1")
        kept = page.run("return [sessionStorage.length, localStorage.length, document.cookie, location.href]")
        self.assertEqual(kept[:3], [1, 0, ""])
        self.assertNotIn(self.stand.token, kept[3])

    def test_03_a_token_that_is_refused_signs_out(self):
        page = self.browser
        page.run("sessionStorage.setItem('pop.token', 'revoked')")
        page.see("does not accept this token any more", ".box")
        self.assertIsNone(page.run("return sessionStorage.getItem('pop.token')"))
        page.sign_in(self.stand.token)

    # Looking.

    def test_10_overview_counts_the_fleet(self):
        page = self.browser
        page.go("#/overview")
        page.see("2", ".tile:nth-child(1) .tile-value")
        page.see("1 / 2", ".tile:nth-child(5) .tile-value")
        page.see("1 down", ".tile:nth-child(5)")
        rows = page.see_rows("both nodes", lambda rows: len(rows) == 2)
        self.assertEqual([row["Node"] for row in rows], ["pop-dead", "pop-test"])
        self.assertEqual([row["State"] for row in rows], ["down", "active"])
        self.assertEqual(rows[1]["Location"], '<b onclick="x">here</b>')
        self.assertIn("stale-row", page.find("tbody tr").get_attribute("class"))
        self.connect()
        page.see("1", ".tile:nth-child(2) .tile-value")
        wait_for("the chart has a line", lambda: page.find(".chart .line.received").get_attribute("d"))

    def test_11_devices_are_filtered_by_the_server(self):
        page = self.browser
        page.go("#/devices?status=online")
        rows = page.see_rows("three online", lambda rows: len(rows) == 3)
        self.assertEqual([row["Device"] for row in rows], ["dev-1", "dev-2", "stranded"])
        self.assertEqual(rows[0]["State"], "online")
        self.assertEqual(rows[2]["State"], "node down")
        page.choose("Status", "")
        page.fill("Id begins with", "seed-0123")
        rows = page.see_rows("ten by prefix", lambda rows: len(rows) == 10)
        self.assertEqual(rows[0]["Device"], "seed-01230")
        self.assertTrue(all(row["State"] == "offline" and "seen" in row["Connected"] for row in rows))
        page.press("group-34")
        rows = page.see_rows("one by tag", lambda rows: len(rows) == 1)
        self.assertEqual(rows[0]["Device"], "seed-01234")
        self.assertIn("q=seed-0123", page.driver.current_url)
        self.assertIn("tag=group-34", page.driver.current_url)
        page.driver.refresh()
        page.see_rows("the same from the address", lambda rows: [row["Device"] for row in rows] == ["seed-01234"])
        page.press("Clear")
        page.see_rows("all again", lambda rows: len(rows) == 100)
        page.fill("Location", "nowhere")
        page.see("Nothing matches these filters")

    def test_12_ten_thousand_devices_are_paged_both_ways(self):
        page = self.browser
        page.go("#/devices?q=seed-&limit=1000")
        expected, cursor = [], None
        for _ in range(3):
            answer = self.stand.get("devices", q="seed-", limit=1000, **({"cursor": cursor} if cursor else {}))
            expected.append([item["device_id"] for item in answer["items"]])
            cursor = answer["next_cursor"]

        def shows(number):
            page.see_rows(f"page {number + 1}", lambda rows: [row["Device"] for row in rows] == expected[number])
            page.see(f"Page {number + 1}", ".pager")
        shows(0)
        page.press("Next")
        shows(1)
        page.press("Next")
        shows(2)
        page.press("seed-02001")
        page.see("seed-02001", "h1")
        page.driver.back()
        shows(2)
        page.press("Previous")
        shows(1)
        page.press("First")
        shows(0)
        self.assertEqual(len(page.rows()), 1000)

    def test_13_a_rare_match_is_found_behind_empty_pages(self):
        page = self.browser
        first = self.stand.get("devices", tag="late", location="early")
        self.assertEqual(first["items"], [])
        self.assertTrue(first["next_cursor"])
        page.go("#/devices?tag=late&location=early")
        page.see_rows("the only one", lambda rows: [row["Device"] for row in rows] == ["seed-rare"])
        page.fill("Location", "loc-none")
        page.see("Nothing matches these filters")

    def test_14_columns_sort(self):
        page = self.browser
        page.go("#/devices?q=seed-0000")
        page.see_rows("by id", lambda rows: rows and rows[0]["Device"] == "seed-00001")
        page.press("Device")
        page.see_rows("backwards", lambda rows: rows[0]["Device"] == "seed-00009")
        self.assertEqual(
            page.find("th[aria-sort]").get_attribute("aria-sort"), "descending")
        page.press("Connected")
        page.see_rows("the longest first", lambda rows: rows[0]["Device"] == "seed-00009")
        page.press("Connected")
        page.see_rows("the shortest first", lambda rows: rows[0]["Device"] == "seed-00001")

    def test_15_a_device_is_shown_whole(self):
        page = self.browser
        client = self.connect()
        device = next(conn["device_id"] for conn in self.stand.get("conns")["items"])
        page.go(f"#/devices/{device}")
        page.see(device, "h1")
        page.see("online", ".facts .pill")
        rows = page.see_rows("its conn and session", lambda rows: len(rows) == 2)
        self.assertEqual(rows[0]["Target"], f"127.0.0.1:{self.stand.target.port}")
        self.assertEqual(rows[1]["End"], "open")
        client.move()
        wait_for("its load is drawn", lambda: "L" in page.find(".chart .line.received").get_attribute("d"))
        for measure in ("conns", "cpu", "memory", "rtt"):
            page.run("""
                const control = document.querySelector('select[aria-label="What is shown"]');
                control.value = arguments[0];
                control.dispatchEvent(new Event('change'));
            """, measure)
            page.see("now", ".chart-summary")
        page.go("#/devices/nobody")
        page.see("There is no such device")
        page.see("device_not_found")

    def test_16_hostile_names_are_only_text(self):
        page = self.browser
        page.go("#/devices?status=online")
        rows = page.see_rows("the devices", lambda rows: len(rows) == 3)
        self.assertEqual(rows[1]["Location"], HOSTILE)
        self.assertIn(SCRIPT, rows[0]["Tags"])
        # What would reorder the text is shown as its code.
        self.assertIn("safe\\u{202e}txt.exe", rows[0]["Tags"])
        for place in ("#/devices/dev-1", "#/devices/dev-2", "#/sessions", "#/nodes/pop-test"):
            page.go(place)
            page.see("Updated", ".fresh")
            self.assertEqual(page.all("main img, main script, main b"), [])
        page.go("#/devices/%3Cimg%20src%3Dx%3E")
        page.see("<img src=x>", "h1")
        page.go("#/%3Cscript%3E")
        page.see("Nothing here", "h1")
        page.go("#/%E0%A4%A")
        page.see("Nothing here", "h1")
        page.go("#/devices/..")
        page.see("A browser can't address")

    def test_17_sessions_are_listed(self):
        page = self.browser
        page.go("#/sessions?open=true")
        rows = page.see_rows("both", lambda rows: len(rows) == 2)
        self.assertEqual({row["Device"] for row in rows}, {"dev-1", "dev-2"})
        self.assertTrue(all(row["End"] == "open" for row in rows))

    def test_18_events_come_as_they_happen(self):
        page = self.browser
        page.go("#/events")
        page.see("live", ".stream-state")
        self.connect(user="<u>eve</u>").close()

        def types(rows):
            return [row["Type"] for row in rows]
        rows = page.see_rows("a conn", lambda rows: types(rows) == ["conn.closed", "conn.opened"])
        self.assertIn(f"127.0.0.1:{self.stand.target.port}", rows[1]["What"])
        page.press("Pause", ".page-head")
        self.connect().close()
        page.see("Paused; 2 events came since", ".fresh")
        self.assertEqual(len(page.rows()), 2)
        page.press("Resume", ".page-head")
        page.see_rows("what came meanwhile", lambda rows: len(rows) == 4)
        page.press("Clear", ".page-head")
        page.find("input[type=checkbox]").click()
        page.see("live", ".stream-state")
        self.assertIn("types=device.online", page.driver.current_url)
        self.connect().close()
        self.stand.request("POST", "/v1/devices/dev-1/disconnect")
        page.see_rows("only what was chosen", lambda rows: types(rows) == ["device.online"])
        wait_for("it is whole", lambda: self.stand.device("dev-1")["health"] == "whole")

    def test_19_events_go_on_after_a_lost_connection(self):
        page = self.browser
        page.go("#/events?types=conn.opened")
        page.see("live", ".stream-state")
        self.connect()
        page.see_rows("the first", lambda rows: len(rows) == 1)
        self.addCleanup(self.stand.relay.mend)
        self.stand.relay.cut()
        page.see("connection lost", ".stream-state")
        self.connect()
        self.stand.relay.mend()
        page.see("live", ".stream-state")
        rows = page.see_rows("the one of meanwhile, once", lambda rows: len(rows) == 2)
        self.assertEqual({row["Type"] for row in rows}, {"conn.opened"})

    # Acting.

    def test_20_a_device_is_disconnected_and_comes_back(self):
        page = self.browser
        before = self.stand.device("dev-1")["session_id"]
        page.go("#/devices/dev-1")
        page.press("Disconnect…")
        page.see("Disconnect dev-1?", "dialog")
        page.confirm("Disconnect", "a test")
        page.see("dev-1 was disconnected", ".notice")
        wait_for("a new session", lambda: self.stand.device("dev-1")["session_id"] not in (None, before))
        wait_for("it is whole", lambda: self.stand.device("dev-1")["health"] == "whole")
        ends = {session["end_reason"] for session in self.stand.get("devices/dev-1/sessions")["items"]}
        self.assertEqual(ends, {None, "operator"})
        page.see_rows("both sessions", lambda rows: {"open", "operator"} <= {row.get("End") for row in rows})

    def test_21_a_stale_look_changes_nothing(self):
        page = self.browser
        page.go("#/devices/dev-2")
        page.press("Disconnect…")
        page.see("Disconnect dev-2?", "dialog")
        before = self.stand.device("dev-2")["session_id"]
        self.stand.request("POST", "/v1/devices/dev-2/disconnect")
        after = wait_for("a new session", lambda: (
            lambda device: device["health"] == "whole" and device["session_id"] != before and device["session_id"])(
                self.stand.device("dev-2")))
        page.press("Disconnect", "dialog")
        page.see("It has changed meanwhile", "dialog")
        page.see("precondition_failed", "dialog")
        page.press("Cancel", "dialog")
        self.assertEqual(self.stand.device("dev-2")["session_id"], after)

    def test_22_a_conn_is_closed_under_traffic(self):
        page = self.browser
        client = self.connect(user="<i>alice</i>")
        other = self.connect()
        page.go("#/conns?user=%3Ci%3Ealice%3C%2Fi%3E")
        rows = page.see_rows("its row", lambda rows: len(rows) == 1)
        self.assertEqual(rows[0]["User"], "<i>alice</i>")
        client.move()
        page.press("Close…")
        page.see("Client and target both see a reset", "dialog")
        page.confirm("Close conn", "too loud")
        page.see("The conn was closed", ".notice")
        self.assertEqual(client.ends_with(), "reset")
        page.see("Nothing matches these filters")
        self.assertEqual(len(self.stand.get("conns")["items"]), 1)
        other.move()

    def test_23_conns_are_closed_by_filter_after_a_count(self):
        page = self.browser
        clients = [self.connect(user="bob"), self.connect(user="bob"), self.connect(user="carol")]
        page.go("#/conns")
        page.see_rows("all three", lambda rows: len(rows) == 3)
        page.press("Close by filter…")
        page.press("Close all matching", "dialog")
        page.see("at least one filter", "dialog")
        page.fill("User", "bob", "dialog")
        page.press("Count first", "dialog")
        page.see("2 conns match now", "dialog")
        page.confirm("Close all matching")
        page.see("2 conns closed", ".notice")
        self.assertEqual([client.ends_with() for client in clients[:2]], ["reset", "reset"])
        rows = page.see_rows("the rest", lambda rows: len(rows) == 1)
        self.assertEqual(rows[0]["User"], "carol")

    def test_24_a_node_is_cordoned_and_uncordoned(self):
        page = self.browser
        page.go("#/nodes/pop-test")
        page.press("Cordon…")
        page.confirm("Cordon", "disk")
        page.see("cordoned", ".facts .pill")
        self.assertEqual(self.stand.get("nodes/self")["state"], "cordoned")
        page.see("takes no new devices or clients", ".banner")
        page.press("Uncordon…")
        page.confirm("Uncordon")
        page.see("active", ".facts .pill")
        self.assertEqual(self.stand.get("nodes/self")["state"], "active")
        page.see_gone("takes no new devices", ".banner-place")

    def test_25_a_node_drains_and_is_taken_back(self):
        page = self.browser
        self.connect()
        page.go("#/nodes/pop-test")
        page.press("Drain…")
        page.fill("Deadline in seconds", "-1", "dialog")
        page.press("Start drain", "dialog")
        page.see("deadline_seconds", "dialog .box")
        self.assertEqual(page.field("Deadline in seconds", "dialog").get_attribute("aria-invalid"), "true")
        page.fill("Deadline in seconds", "600", "dialog")
        page.press("Preview", "dialog")
        page.see("2 devices in about", "dialog .box")
        page.see("at the rate set", "dialog .box")
        page.see("of 1 conn likely cut", "dialog .box")
        page.confirm("Start drain", "upgrade <now>")
        page.see("have left", ".drain-progress")
        drain = self.stand.get("nodes/self/drain")
        self.assertEqual(drain["reason"], "upgrade <now>")
        self.assertIn(drain["state"], ("handover", "settling"))
        page.see("upgrade <now>", ".facts")
        page.press("Cancel drain…")
        page.confirm("Take back")
        page.see("active", ".facts .pill")
        self.assertEqual(self.stand.get("nodes/self")["state"], "active")
        for name in ("dev-1", "dev-2"):
            wait_for(f"{name} is back", lambda: self.stand.device(name)["health"] == "whole")
        page.go("#/drains")
        rows = page.see_rows("the drain", lambda rows: rows and rows[0]["State"] == "canceled")
        self.assertEqual((rows[0]["Node"], rows[0]["Reason"]), ("pop-test", "upgrade <now>"))

    def test_26_a_device_is_enrolled_and_its_token_shown_once(self):
        page = self.browser
        page.go("#/devices")
        page.press("Enroll device…")
        page.fill("Device id", "no such id", "dialog")
        page.press("Enroll", "dialog")
        page.see("There is no such", "dialog .box")
        page.fill("Device id", "fresh-1", "dialog")
        page.fill("Reason", "new branch", "dialog")
        page.press("Enroll", "dialog")
        secret = page.see("", "dialog .secret").text
        self.assertTrue(secret.startswith("pop_device_"))
        # Neither Escape nor a slip of the mouse loses it.
        page.find("dialog").send_keys(Keys.ESCAPE)
        page.find("dialog").send_keys(Keys.ESCAPE)
        page.see(secret, "dialog .secret")
        page.press("I have stored it", "dialog")
        page.see_gone(secret)
        self.assertNotIn(secret, page.driver.page_source)
        self.assertEqual(self.stand.device("fresh-1")["status"], "offline")
        page.go("#/devices/fresh-1")
        page.press("Revoke token…")
        page.confirm("Revoke", "lost")
        page.see("The token of fresh-1 was revoked", ".notice")
        page.press("Revoke token…")
        page.press("Revoke", "dialog")
        page.see("token_not_found", "dialog .box")
        page.press("Cancel", "dialog")

    def test_27_a_device_is_kept_out_and_let_in_again(self):
        page = self.browser
        page.go("#/devices/dev-2")
        page.press("Disable…")
        page.confirm("Disable", "stolen")
        page.see("disabled", ".facts .pill")
        page.see("offline", ".facts .pill")
        device = self.stand.device("dev-2")
        self.assertEqual((device["enabled"], device["status"]), (False, "offline"))
        page.press("Enable…")
        page.confirm("Enable", "found")
        page.see_gone("disabled", ".facts .pill")
        self.assertTrue(self.stand.device("dev-2")["enabled"])
        # The device waits a minute after it was kept out; nobody waits for it here.
        self.stand.stop("dev-2")
        self.stand.start_device("dev-2", location=HOSTILE)
        page.see("online", ".facts .pill")

    def test_28_tokens_are_made_and_revoked_and_scopes_hold(self):
        page = self.browser
        page.go("#/tokens")
        page.press("New token…")
        page.press("Create token", "dialog")
        page.see("Some values don't fit", "dialog .box")
        self.assertEqual(page.field("Name", "dialog").get_attribute("aria-invalid"), "true")
        page.fill("Name", "<s>viewer</s>", "dialog")
        page.choose("Scope", "read", "dialog")
        page.press("Create token", "dialog")
        secret = page.see("", "dialog .secret").text
        page.press("I have stored it", "dialog")
        rows = page.see_rows("its row", lambda rows: len(rows) == 1)
        self.assertEqual((rows[0]["Name"], rows[0]["Scope"]), ("<s>viewer</s>", "read"))
        self.addCleanup(page.sign_in_again, self.stand.token)
        page.press("Sign out")
        page.fill("Admin token", secret).send_keys(Keys.ENTER)
        # Back where it was, but with less to see.
        page.see("Tokens", "h1")
        page.see("The token needs the scope admin", ".box")
        page.go("#/devices/dev-1")
        page.press("Disconnect…")
        page.press("Disconnect", "dialog")
        page.see("This token may not do that", "dialog .box")
        page.see("The token needs the scope operate", "dialog .box")
        page.press("Cancel", "dialog")
        self.assertEqual(self.stand.device("dev-1")["health"], "whole")
        token_id = self.stand.get("tokens")["items"][0]["token_id"]
        self.stand.request("DELETE", f"/v1/tokens/{token_id}")
        page.see("does not accept this token any more", ".box")

    def test_27_users_are_made_changed_and_deleted(self):
        page = self.browser
        page.go("#/users")
        page.see("No users")
        page.press("New user…")
        page.fill("Name", "al-ice", "dialog")
        page.fill("Bytes a month", "much", "dialog")
        page.press("Create user", "dialog")
        page.see("Some values don't fit", "dialog .box")
        for label in ("Name", "Password", "Bytes a month"):
            self.assertEqual(page.field(label, "dialog").get_attribute("aria-invalid"), "true", label)
        page.fill("Name", "alice", "dialog")
        page.fill("Password", "secret of alice", "dialog")
        page.fill("Conns at most", "3", "dialog")
        page.fill("Bytes a month", "1.5 GiB", "dialog")
        page.fill("Locations", f"eu-west, {HOSTILE}", "dialog")
        page.confirm("Create user")
        page.see("alice may come in")
        rows = page.see_rows("its row", lambda rows: len(rows) == 1)
        self.assertEqual((rows[0]["Name"], rows[0]["Conns at most"]), ("alice", "3"))
        self.assertEqual(rows[0]["Used this month"], "0 B of 1.5 GiB")
        self.assertEqual(rows[0]["Devices in"], f"eu-west, {HOSTILE}")
        user = self.stand.get("users/alice")
        self.assertEqual((user["max_conns"], user["bytes_quota"]), (3, 3 << 29))
        self.assertEqual(user["allowed_locations"], ["eu-west", HOSTILE])
        page.press("Limits…")
        self.assertEqual(page.field("Bytes a month", "dialog").get_attribute("value"), "1536 MiB")
        page.fill("Conns at most", "", "dialog")
        page.fill("Bytes a second", "2 MiB", "dialog")
        page.confirm("Change limits", "she pays more")
        page.see_rows("the new limits", lambda rows: rows[0]["Conns at most"] == "–")
        user = self.stand.get("users/alice")
        self.assertEqual(
            (user["max_conns"], user["bytes_quota"], user["rate_bytes_per_second"]), (None, 3 << 29, 2 << 20))
        self.assertEqual(user["allowed_locations"], ["eu-west", HOSTILE], "what was not touched stays")
        page.press("Password…")
        page.fill("Password", "another", "dialog")
        page.confirm("Change password")
        page.see("alice has another password")
        page.press("alice")
        page.see("Live conns", "h1")
        self.assertEqual(page.field("User").get_attribute("value"), "alice")
        page.driver.back()
        page.press("Delete…")
        page.confirm("Delete", "she left")
        page.see("No users")
        self.assertEqual(self.stand.get("users")["items"], [])
        lines = self.stand.get("audit", limit=10)["items"]
        self.assertIn("she pays more", [line["reason"] for line in lines])
        self.assertNotIn("secret of alice", json.dumps(lines))

    def test_29_the_audit_trail_tells_who_and_why(self):
        page = self.browser
        page.go("#/audit?path=/v1/conns")
        rows = page.see_rows("the closed conns", lambda rows: any(row["Reason"] == "too loud" for row in rows))
        self.assertTrue(all("/v1/conns" in row["What"] for row in rows))
        self.assertEqual({row["Who"] for row in rows}, {"bootstrap"})
        page.press("Clear")
        page.fill("Answer", "403")
        rows = page.see_rows("what was refused", lambda rows: rows and all(row["Answer"] == "403" for row in rows))
        self.assertEqual(rows[0]["Who"], "<s>viewer</s>")

    # The keyboard, the eyes, the window.

    def test_30_dialogs_keep_and_give_back_the_focus(self):
        page = self.browser
        page.go("#/devices/dev-1")
        opener = wait_for("the button", lambda: next(
            each for each in page.all("header button") if each.text == "Disconnect…"))
        opener.send_keys(Keys.ENTER)
        page.see("Disconnect dev-1?", "dialog")
        focus = "return document.activeElement"
        for _ in range(6):
            page.run(focus).send_keys(Keys.TAB)
            self.assertTrue(page.run(
                "return document.activeElement === document.body"
                " || document.querySelector('dialog').contains(document.activeElement)"))
        page.find("dialog input").send_keys(Keys.ESCAPE)
        wait_for("the dialog is closed", lambda: not page.all("dialog"))
        self.assertEqual(page.run(focus).text, "Disconnect…")

    def test_31_focus_survives_refreshes(self):
        page = self.browser
        page.go("#/devices?status=online")
        page.see_rows("the rows", lambda rows: len(rows) == 3)
        page.run("document.querySelector('tbody a').focus()")
        for _ in range(2):
            page.press("Refresh")
            page.run("document.querySelector('tbody a').focus()")
            wait_for("it is refreshed", lambda: not page.all("section[aria-busy]"))
            self.assertEqual(page.run("return document.activeElement.textContent"), "dev-1")

    def test_32_everything_has_a_name_and_contrast(self):
        page = self.browser
        script = (HERE / "look.js").read_text(encoding="utf8")
        self.addCleanup(page.look)
        for dark in (False, True):
            for place in (
                "overview", "nodes", "nodes/pop-test", "devices", "devices/dev-1", "conns", "sessions", "drains",
                "events", "audit", "users", "tokens",
            ):
                page.look(dark=dark)
                page.go(f"#/{place}")
                page.see("" if place in ("overview", "events") else "Updated", "main")
                self.assertEqual(page.run(script), [], f"{place}, {'dark' if dark else 'light'}")

    def test_33_a_narrow_window_needs_no_scrolling_sideways(self):
        page = self.browser
        self.addCleanup(page.look)
        for width in (320, 390, 768, 1024):
            page.look(width=width, height=800)
            for place in (
                "overview", "nodes", "nodes/pop-test", "devices", "devices/dev-2", "conns", "sessions", "drains",
                "audit", "users", "tokens",
            ):
                page.go(f"#/{place}")
                page.see("" if place == "overview" else "Updated", "main")
                excess = page.run("return document.documentElement.scrollWidth - innerWidth")
                self.assertLessEqual(excess, 0, f"{place} at {width}")

    # Faults.

    def test_90_a_database_that_is_away_is_said(self):
        page = self.browser
        page.go("#/devices?status=online")
        page.see_rows("the rows", lambda rows: len(rows) == 3)
        self.stand.stop_database()
        page.see("The database is away", ".banner")
        page.see("The database is away", ".box")
        page.see("Not current", ".fresh")
        # What was loaded stays, marked as old.
        self.assertEqual(len(page.rows()), 3)
        self.assertIn("stale", page.find("main section").get_attribute("class"))
        self.connect()
        page.go("#/conns")
        page.see_rows("live conns go on", lambda rows: len(rows) == 1)

    def test_91_a_node_that_is_gone_is_said(self):
        page = self.browser
        page.go("#/conns")
        page.see("Updated", ".fresh")
        self.stand.stop("node")
        page.see("The node does not answer", ".banner")
        page.see("The node does not answer", ".box")
        self.assertEqual(json.loads(page.run("return JSON.stringify(window.violations)")), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
