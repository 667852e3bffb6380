//! Signs of life for whatever takes more than a second: on stderr, and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that turns until it is finished. Where stderr is no terminal nothing appears.
pub fn spinner(message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(message.into());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A bar for so many bytes, with their rate and what is left. Where stderr is no terminal nothing appears.
pub fn bar(bytes: u64, message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let form = "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar.set_message(message.into());
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
