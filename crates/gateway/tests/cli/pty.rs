//! A terminal that nobody looks at: a command runs in it, keys are pressed, and what it shows can be asked for.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{MAINSTAY, User, kill_process, pid, wait_until};

/// A command in a terminal; killed when the test ends in any way.
pub(crate) struct Pty {
    master: File,
    /// Kept open, so that the terminal's settings can be read after the command's end.
    slave: File,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Pty {
    /// Starts `mainstay` with these arguments in a terminal of that size.
    pub(crate) fn start(user: &User, args: &[&str], (columns, rows): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        tcsetwinsize(&master, size(columns, rows)).unwrap();
        // `setsid -c` makes it the terminal of the command, so that Ctrl-C and a new size reach it.
        let mut command: Command = user.program("setsid", &[&["-c", MAINSTAY], args].concat());
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 1_000)));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let mut output = File::from(master.try_clone().unwrap());
        let (shown, kept) = (screen.clone(), raw.clone());
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // Ends with an error when nobody holds the other end any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..count]);
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            master: File::from(master),
            slave,
            screen,
            raw,
            child,
            reader: Some(reader),
        }
    }

    /// What is on the screen.
    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Everything that was ever written.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned()
    }

    /// Waits until all of that is on the screen.
    #[track_caller]
    pub(crate) fn shows(&self, parts: &[&str]) {
        let what = format!("{parts:?} on\n{}", self.text());
        wait_until(&what, || {
            let text = self.text();
            parts.iter().all(|part| text.contains(part))
        });
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the terminal larger or smaller.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.screen
            .lock()
            .unwrap()
            .screen_mut()
            .set_size(rows, columns);
        tcsetwinsize(&self.master, size(columns, rows)).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(u64::from(self.child.id())), signal).unwrap();
    }

    /// Waits for the end and checks that the terminal is as it was: the first screen, a cursor, lines, an echo.
    #[track_caller]
    pub(crate) fn ended(mut self, code: i32) -> String {
        wait_until("the end of the command", || {
            self.child.try_wait().unwrap().is_some()
        });
        assert_eq!(
            self.child.wait().unwrap().code(),
            Some(code),
            "{}",
            self.text()
        );
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        assert!(
            modes.contains(LocalModes::ICANON | LocalModes::ECHO),
            "the terminal was left raw: {modes:?}"
        );
        // What was written last may still be on its way.
        wait_until("the first screen and its cursor", || {
            let parser = self.screen.lock().unwrap();
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        });
        self.text()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        // The reader ends when the last holder of the other end is gone; it is not waited for, as a stray child may be one.
        drop(self.reader.take());
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
