//! The page of the admin listener in a real browser (Debian's package chromium): what it shows, and what a click does.
//!
//! Skipped where there is no browser. `UPDATE=1` writes the pictures of `docs/`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Evenly, Origin, Start};

const TOKEN: &str = "w0nderful-T0ken/of=this+test";

/// How long the browser may take to begin or to answer: machines under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each is of its own use: fewer processes, no network of its own, and work as root.
const ARGUMENTS: &str = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --disable-extensions --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe";

/// A browser with one page, spoken to by its pipes (the DevTools protocol: JSON, each message ended by a zero byte).
struct Browser {
    child: Child,
    pipe: ChildStdin,
    messages: Receiver<Value>,
    count: u64,
    session: Option<String>,
    /// What its console says, and what its script does not catch.
    complaints: Vec<String>,
    _folder: TempDir,
}

impl Browser {
    /// `None` without one on this machine.
    fn start() -> Option<Browser> {
        let program = "/usr/bin/chromium";
        if !Path::new(program).exists() {
            println!("skipped: chromium is missing (Debian: apt-get install chromium)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // It reads descriptor 3 and writes to 4.
        let script = format!(
            "exec {program} {ARGUMENTS} --user-data-dir=\"$0\" 3<&0 4>&1 </dev/null >/dev/null"
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (pipe, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(out).split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
            }
        });
        let (complaints, session) = (Vec::new(), None);
        let mut browser =
            Browser { child, pipe, messages, count: 0, session, complaints, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Has the browser do something: its result.
    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.count += 1;
        let mut message = json!({ "id": self.count, "method": method });
        message["params"] = params;
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.pipe.write_all(format!("{message}\0").as_bytes()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left).expect("an answer of the browser");
            if message["id"] == json!(self.count) {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            let is_complaint = match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Log.entryAdded") => message["params"]["entry"]["level"] == "error",
                _ => false,
            };
            if is_complaint {
                self.complaints.push(message["params"].to_string());
            }
        }
    }

    /// The value of an expression of its script.
    #[track_caller]
    fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let said = self.call("Runtime.evaluate", asked);
        assert!(said["exceptionDetails"].is_null(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    #[track_caller]
    fn waits_for(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression) != json!(true) {
            if Instant::now() > deadline {
                let text = self.value("document.body.innerText");
                panic!("waited for {expression}: {text} {:#?}", self.complaints);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks in the middle of an element, as a mouse does.
    #[track_caller]
    fn click(&mut self, element: &str) {
        let place = format!(
            "{{ const it = {element}; it.scrollIntoView({{ block: 'center' }}); const at = it.getBoundingClientRect(); \
             [at.x + at.width / 2, at.y + at.height / 2] }}"
        );
        let at = self.value(&place);
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// A key that has a name, such as Enter.
    fn press(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// So wide and high, dark or light.
    fn looks(&mut self, (width, height): (u32, u32), is_mobile: bool, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": feature }));
    }

    /// A picture of what is seen, as `docs/NAME` if that is asked for.
    fn picture(&mut self, name: &str) {
        if std::env::var_os("UPDATE").is_none() {
            return;
        }
        // Its lines have some length by then.
        self.waits_for("document.querySelector('#rates polyline').points.length > 12");
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(fs::File::create(path).unwrap())
            .spawn()
            .unwrap();
        let text = shot["data"].as_str().unwrap();
        decode.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(decode.wait().unwrap().success());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its own processes when it is asked to, and is killed if it does not.
        let close = format!("{}\0", json!({ "id": 0, "method": "Browser.close" }));
        let _ = self.pipe.write_all(close.as_bytes());
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Before these two, with a token.
fn program(origins: [&Origin; 2], folder: &TempDir) -> (Evenly, String) {
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let targets = origins.map(|it| {
        let check = "health_check_endpoint = \"/healthz\"\ninterval = \"300ms\"\nfall = 2\n";
        format!("[[targets]]\naddress = \"{}\"\n{check}", it.target())
    });
    let text = format!(
        "listen = \"127.0.0.1:0\"\nworkers = 1\n{}[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}\n",
        targets.concat()
    );
    let evenly = Start::of(&text).start();
    let admin = evenly.logged_after("admin listening on http://");
    (evenly, admin)
}

/// The row of the target of this name, in the script.
fn row(target: &str) -> String {
    format!(
        "[...document.querySelectorAll('#rows tr')].find((row) => row.textContent.includes('{target}'))"
    )
}

fn shows(target: &str, text: &str) -> String {
    format!("{}?.innerText.includes({}) ?? false", row(target), json!(text))
}

#[test]
fn the_page_shows_what_happens_and_takes_a_target_out_by_a_click() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (evenly, admin) = program([&a, &b], &folder);
    let (first, second) = (a.target(), b.target());
    let button = format!("{}.querySelector('button')", row(&second));

    evenly.under_load(|| {
        browser.looks((1150, 740), false, "light");
        browser.call("Page.navigate", json!({ "url": format!("http://{admin}/") }));
        for target in [&first, &second] {
            browser.waits_for(&shows(target, "up"));
        }
        browser.waits_for("/[0-9]/.test(document.getElementById('rate').textContent)");
        browser.waits_for("/ m?s$/.test(document.getElementById('p99').textContent)");

        a.set_healthy(false);
        browser.waits_for(&shows(&first, "down"));
        browser.waits_for(&shows(&first, "unexpected status 500"));
        let said =
            format!("document.getElementById('said').textContent.includes('{first} is down')");
        browser.waits_for(&said);
        browser.picture("page-light.png");
        a.set_healthy(true);
        browser.waits_for(&shows(&first, "up"));

        // Without a token nothing is asked for: the field has the focus.
        browser.click(&button);
        browser.waits_for("document.activeElement.id === 'token'");
        browser.call("Input.insertText", json!({ "text": TOKEN }));
        browser.click(&button);
        browser.waits_for(&shows(&second, "drained"));
        browser.waits_for(&format!("{button}.textContent === 'Put back'"));
        browser.looks((390, 844), true, "dark");
        browser.value("document.getElementById('targets').scrollIntoView()");
        // No page is wider than the phone.
        browser.waits_for("document.documentElement.scrollWidth <= innerWidth");
        browser.picture("page-phone-dark.png");
        // By keyboard.
        browser.value(&format!("{button}.focus()"));
        browser.press("Enter", 13, "\r");
        browser.waits_for(&shows(&second, "up"));
    });
    assert_eq!(browser.complaints, [""; 0]);
    assert_eq!(evenly.logged("drained by hand"), 1);
}

#[test]
fn the_page_says_that_evenly_is_gone_and_keeps_what_it_knew() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (evenly, admin) = program([&a, &b], &folder);
    browser.call("Page.navigate", json!({ "url": format!("http://{admin}/") }));
    browser.waits_for(&shows(&a.target(), "up"));
    let notice = "!document.getElementById('notice').hidden";
    assert_eq!(browser.value(notice), json!(false));
    drop(evenly);
    browser.waits_for(notice);
    browser.waits_for("document.getElementById('notice').innerText.includes('has not answered')");
    browser.waits_for(&shows(&a.target(), "up"));
}

#[test]
fn no_script_can_turn_text_into_html_in_the_page() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (_evenly, admin) = program([&a, &b], &folder);
    browser.call("Page.navigate", json!({ "url": format!("http://{admin}/") }));
    browser.waits_for(&shows(&a.target(), "up"));
    browser.waits_for(
        "(() => { try { document.body.innerHTML = '<b>'; return false } catch { return true } })()",
    );
    assert_eq!(browser.value("document.getElementById('rows') !== null"), json!(true));
}
