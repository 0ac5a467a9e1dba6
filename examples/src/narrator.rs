//! Tells a story on the terminal, step by step, and stops where a step does not hold.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;

/// A wait that is longer than this is told, and again each time that it has passed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// Pause between two looks at what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A step that did not hold.
#[derive(Debug, thiserror::Error)]
#[error("step \"{step}\" failed: {cause:#}")]
pub struct Failed {
    /// Its title.
    pub step: &'static str,
    /// What was claimed, and what was seen.
    pub cause: anyhow::Error,
}

/// Where the story is told. Clones tell the same one.
#[derive(Clone)]
pub struct Narrator(Arc<Inner>);

struct Inner {
    out: Mutex<Box<dyn Write + Send>>,
    colours: bool,
}

impl Narrator {
    /// On standard output; in colours if that is a terminal and `NO_COLOR` is not set.
    pub fn on_stdout() -> Self {
        let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = io::stdout().is_terminal() && !asked_not_to;
        Self(Arc::new(Inner {
            out: Mutex::new(Box::new(io::stdout())),
            colours,
        }))
    }

    /// Without colours, to anything that takes text.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Inner {
            out: Mutex::new(Box::new(out)),
            colours: false,
        }))
    }

    /// Begins a part.
    pub fn part(&self, title: &str) {
        self.print("1", &format!("\n{title}"));
    }

    /// Tells what was done or seen in a step.
    pub fn line(&self, text: impl Display) {
        self.print("", &format!("    {text}"));
    }

    /// Tells a step: its title, what `deed` tells, and how long it took.
    ///
    /// # Errors
    /// `deed` failed; the error names the step.
    pub async fn step<T>(
        &self,
        step: &'static str,
        deed: impl Future<Output = anyhow::Result<T>>,
    ) -> Result<T, Failed> {
        self.print("36", &format!("\n  {step}"));
        let started = Instant::now();
        match deed.await {
            Ok(value) => {
                self.print(
                    "32",
                    &format!("    ok, {:.1} s", started.elapsed().as_secs_f64()),
                );
                Ok(value)
            }
            Err(cause) => {
                self.print("31", &format!("    FAILED: {cause:#}"));
                Err(Failed { step, cause })
            }
        }
    }

    /// Looks until there is something to see, at most `patience`. A `look` says what is missing.
    ///
    /// # Errors
    /// What was missing at the last look.
    pub async fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        let mut told = PROGRESS_INTERVAL;
        loop {
            // A look may itself take long: every call has a deadline of its own.
            let missing = match look().await {
                Ok(seen) => return Ok(seen),
                Err(missing) => missing,
            };
            let waited = started.elapsed();
            if waited >= patience {
                let seconds = waited.as_secs_f64();
                return Err(anyhow!(
                    "not within {seconds:.1} s: {what}; at last: {missing:#}"
                ));
            }
            if waited >= told {
                self.waiting(what, waited, &missing);
                told = waited + PROGRESS_INTERVAL;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Tells that something takes its time.
    pub fn waiting(&self, what: &str, waited: Duration, seen: &dyn Display) {
        let seconds = waited.as_secs();
        self.print(
            "2",
            &format!("    ... {seconds} s, waiting for {what}: {seen:#}"),
        );
    }

    fn print(&self, colour: &str, text: &str) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        let written = if self.0.colours && !colour.is_empty() {
            writeln!(out, "\x1b[{colour}m{text}\x1b[0m")
        } else {
            writeln!(out, "{text}")
        };
        // Nobody listens: the story goes on, and its end says whether it held.
        let _ = written.and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[tokio::test]
    async fn a_failed_step_is_named_and_told() {
        let page = Page::default();
        let narrator = Narrator::to(page.clone());
        let deed = async { bail!("it was 4") };
        let failed = narrator
            .step::<()>("two and two make five", deed)
            .await
            .unwrap_err();
        assert_eq!(failed.step, "two and two make five");
        assert!(page.text().contains("FAILED: it was 4"), "{}", page.text());
    }

    #[tokio::test]
    async fn a_wait_ends_with_what_was_missing_at_last() {
        let narrator = Narrator::to(io::sink());
        let mut looks = 0;
        let look = async || {
            looks += 1;
            bail!("look {looks}")
        };
        let error = narrator
            .until::<()>("rain", Duration::ZERO, look)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("rain") && text.ends_with("look 1"), "{text}");
    }

    #[tokio::test]
    async fn only_a_long_wait_is_told() {
        let page = Page::default();
        let narrator = Narrator::to(page.clone());
        let mut started = None;
        let look = async || {
            let started: &mut Instant = started.get_or_insert_with(Instant::now);
            anyhow::ensure!(started.elapsed() > PROGRESS_INTERVAL * 3 / 2, "clouds only");
            Ok(())
        };
        narrator
            .until("rain", Duration::from_secs(60), look)
            .await
            .unwrap();
        assert_eq!(
            page.text().matches("waiting for rain: clouds only").count(),
            1
        );
        let before = page.text();
        narrator
            .until("sun", Duration::from_secs(60), async || Ok(()))
            .await
            .unwrap();
        assert_eq!(page.text(), before);
    }
}
