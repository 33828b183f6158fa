//! Chromium without a window, by its own protocol over a pipe: what the page of a report does in a real browser.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::judges::{file, unpacked};
use crate::support::tools::{command, scratch};

/// How long the browser may take for one answer: protection against a test that hangs, not a measure of speed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    heard: Receiver<Value>,
    /// The session of the page.
    session: Option<String>,
    last: u64,
    /// Events that came while an answer was awaited.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it. It reads commands from descriptor 3 and answers on descriptor 4.
    pub(crate) fn start() -> Self {
        let program = file("/usr/lib/chromium/chromium-headless-shell");
        // Without any font, boxes have no text.
        let _ = file("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf");
        let profile = scratch();
        let mut shell = command("sh");
        shell.arg("-c").arg("exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null").arg(program);
        shell.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]);
        shell.args(["--no-first-run", "--disable-background-networking", "--remote-debugging-pipe"]);
        shell.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        shell.env("LD_LIBRARY_PATH", unpacked().join("libraries")).env("HOME", profile.path());
        let mut child =
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (tell, heard) = channel();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while let Ok(1..) = out.read_until(0, &mut message) {
                message.pop();
                if tell.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let input = child.stdin.take().unwrap();
        let mut browser =
            Self { child, input, heard, session: None, last: 0, events: Vec::new(), _profile: profile };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.ask("Target.attachToTarget", target)["sessionId"].as_str().unwrap().to_owned();
        browser.session = Some(session);
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            browser.ask(domain, json!({}));
        }
        browser
    }

    /// Sends a command and waits for its result.
    pub(crate) fn ask(&mut self, method: &str, parameters: impl Into<Value>) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters.into() });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap();
        loop {
            let heard = self.hear();
            if heard["id"] == self.last {
                assert!(heard["error"].is_null(), "{method}: {heard}");
                return heard["result"].clone();
            }
            self.events.push(heard);
        }
    }

    fn hear(&mut self) -> Value {
        self.heard.recv_timeout(PATIENCE).expect("Chromium answers")
    }

    /// Opens a file and waits until it is loaded.
    pub(crate) fn open(&mut self, path: &std::path::Path) {
        self.load("Page.navigate", json!({ "url": format!("file://{}", path.display()) }));
    }

    /// Loads the page again.
    pub(crate) fn reload(&mut self) {
        self.load("Page.reload", json!({}));
    }

    /// Sends a command that loads a page, and waits until that is loaded.
    fn load(&mut self, method: &str, parameters: Value) {
        let loads =
            |events: &[Value]| events.iter().filter(|event| event["method"] == "Page.loadEventFired").count();
        let before = loads(&self.events);
        self.ask(method, parameters);
        while loads(&self.events) == before {
            let heard = self.hear();
            self.events.push(heard);
        }
    }

    /// Waits until an expression has this value.
    pub(crate) fn until(&mut self, expression: &str, value: &str) {
        let start = std::time::Instant::now();
        loop {
            let found = self.value(expression);
            if found == value {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{expression}: {found}, not {value}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let result = self.ask(
            "Runtime.evaluate",
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }),
        );
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Clicks the middle of the first element that a selector finds.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const own = document.querySelector({selector:?}); own.scrollIntoView({{ block: 'center' }}); \
             const r = own.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.ask(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code }),
            );
        }
    }

    /// The size of the window, and whether it is dark.
    pub(crate) fn window(&mut self, (width, height): (u32, u32), dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask("Emulation.setEmulatedMedia", feature);
    }

    /// A picture of the window: a PNG in base 64.
    pub(crate) fn picture(&mut self) -> String {
        let picture = self.ask("Page.captureScreenshot", json!({ "format": "png" }));
        picture["data"].as_str().unwrap().to_owned()
    }

    /// What the page complained about: on its console, by an exception, or by something that it was refused.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let bad = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        self.events.iter().filter(|event| bad.iter().any(|method| event["method"] == *method)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
