//! A module for tests of the protocol itself: it does what it is told to, also what no
//! real module should.

use oxistrano_core::{Context, Documentation, Failure, Literal, Module, Outcome, interrupt};

oxistrano_core::options! {
    /// The options of the probe.
    pub struct Options {
        /// C(panic), C(panic_in_thread), C(wait) for a signal, or C(nothing).
        act: String, default = Some(Literal::Text("nothing"));
        /// A secret.
        password: Option<String>, no_log = true;
    }
}

struct Probe;

impl Module for Probe {
    type Options = Options;
    const NAME: &'static str = "probe";
    const DOCUMENTATION: Documentation = Documentation {
        short: "Misbehave",
        description: &[],
        notes: &[],
        see_also: &[],
        examples: "",
        returns: &[],
        diff_mode: "full",
        action_plugin: false,
    };

    fn run(options: Options, _: &Context) -> Result<Outcome, Failure> {
        let secret = options.password.unwrap_or_default();
        match options.act.as_str() {
            "panic" => panic!("the probe was told to panic"),
            "panic_in_thread" => {
                let threads =
                    [0; 3].map(|_| std::thread::spawn(|| panic!("a thread of the probe panics")));
                let ended = threads.map(|thread| thread.join().is_err());
                Ok(Outcome::new(false).value("threads_panicked", ended.to_vec()))
            }
            "wait" => loop {
                interrupt::check()?;
                std::thread::sleep(std::time::Duration::from_millis(5));
            },
            _ => Ok(Outcome::new(false).msg(format!("the secret is {secret}"))),
        }
    }
}

fn main() -> std::process::ExitCode {
    oxistrano_core::Program::of::<Probe>().run()
}
