//! One page of `top`: the machine, the domains' rates, and their exits by kind.

use abi::control::{hypercall::ExitKind, wire::Domain};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Gauge, Row, Table},
};

use super::{super::list::state, Snapshot, tasks};

/// Width of a column of figures.
const FIGURE: u16 = 5;

pub(super) struct Page<'snapshots> {
    title: &'static str,
    old: &'snapshots Snapshot,
    new: &'snapshots Snapshot,
    /// Domains that are scrolled past.
    scroll: usize,
    /// Tasks are shown, and not exits by kind.
    tasks: bool,
}

impl<'snapshots> Page<'snapshots> {
    pub(super) fn new(
        title: &'static str,
        old: &'snapshots Snapshot,
        new: &'snapshots Snapshot,
        scroll: usize,
        tasks: bool,
    ) -> Self {
        Self { title, old, new, scroll, tasks }
    }

    pub(super) fn draw(&self, frame: &mut Frame) {
        let rows = u16::try_from(self.new.domains.len().saturating_sub(self.scroll)).unwrap_or(u16::MAX);
        let [head, memory, _, rates, _, exits, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Max(rows.saturating_add(1)),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.head(), head);
        self.memory(frame, memory);
        frame.render_widget(self.rates(), rates);
        frame.render_widget(if self.tasks { self.tasks() } else { self.exits() }, exits);
        let keys = "q quits, t shows tasks or exits, arrows scroll; figures are per second";
        frame.render_widget(Line::styled(keys, dim()), foot);
    }

    fn head(&self) -> Line<'static> {
        let machine = &self.new.machine;
        let ticks = machine.tsc.saturating_sub(machine.boot_tsc);
        let up = ticks.checked_div(u64::from(machine.tsc_khz) * 1000).unwrap_or(0);
        let text = format!(
            "atoll on {}: {} cores, {} domains, up {}:{:02}:{:02} of the machine's time",
            self.title,
            machine.cores,
            self.new.domains.len(),
            up / 3600,
            up / 60 % 60,
            up % 60
        );
        Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
    }

    fn memory(&self, frame: &mut Frame, area: Rect) {
        let machine = &self.new.machine;
        let used = machine.frames_total.saturating_sub(machine.frames_free);
        let ratio = if machine.frames_total == 0 { 0.0 } else { used as f64 / machine.frames_total as f64 };
        let label = format!("memory {} of {} MiB", used / 256, machine.frames_total / 256);
        let gauge = Gauge::default().ratio(ratio.clamp(0.0, 1.0)).label(label).gauge_style(Color::Blue);
        frame.render_widget(gauge, area);
    }

    /// Domains that are shown, each with what it was a page ago; a new one was not.
    fn shown(&self) -> impl Iterator<Item = (&Domain, Option<&Domain>)> {
        self.new.domains.iter().skip(self.scroll).map(|domain| {
            let same = |old: &&Domain| old.id == domain.id && old.name == domain.name;
            (domain, self.old.domains.iter().find(same))
        })
    }

    fn per_second(&self, new: u64, old: Option<u64>) -> String {
        let seconds = self.new.taken.duration_since(self.old.taken).as_secs_f64().max(0.001);
        let rate = new.saturating_sub(old.unwrap_or(new)) as f64 / seconds;
        short(rate.round() as u64)
    }

    fn rates(&self) -> Table<'static> {
        let rows = self.shown().map(|(domain, old)| {
            let rate = |field: fn(&Domain) -> u64| self.per_second(field(domain), old.map(field));
            let share = u64::from(domain.memory_mib) * 256 * 8 / self.new.machine.frames_total.max(1);
            Row::new([
                domain.name.clone(),
                right(domain.id, 4),
                right(super::super::list::cores(&domain.cores), 5),
                state(domain.state),
                format!("{:>5} {}", domain.memory_mib, bar(share)),
                right(rate(super::super::list::exits), 6),
                right(rate(|domain| domain.events_in), 6),
                right(rate(|domain| domain.events_out), 6),
                right(rate(|domain| domain.messages_in), 6),
                right(rate(|domain| domain.messages_out), 6),
            ])
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(4),
            Constraint::Length(5),
            Constraint::Length(9),
            Constraint::Length(10),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
        ];
        let header =
            ["Name", "  ID", "Cores", "State", "  MiB", " Exits", " Ev in", "Ev out", " Ms in", "Ms out"];
        Table::new(rows, widths).header(Row::new(header).style(reversed()))
    }

    /// Whose time it is on the cores of the mesh, as their kernels tell.
    fn tasks(&self) -> Table<'static> {
        let percent = |part: f64| right(format!("{:.1}%", part.min(1.0) * 100.0), 7);
        let rows = tasks::shares(self.old, self.new, self.scroll).into_iter().map(|share| {
            let rate = |count| right(self.per_second(count, Some(0)), 6);
            Row::new([
                share.domain.to_owned(),
                share.name.clone(),
                percent(share.worked),
                percent(share.paid),
                rate(share.polls),
                rate(share.received),
                rate(share.sent),
            ])
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(12),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
        ];
        let header = ["Tasks of", "Task", " Worked", "   Paid", " Polls", " Ms in", "Ms out"];
        Table::new(rows, widths).header(Row::new(header).style(reversed()))
    }

    /// Exits by kind, of the kinds that some domain has ever had.
    fn exits(&self) -> Table<'static> {
        let has_any = |kind: usize| self.new.domains.iter().any(|domain| domain.exits[kind] > 0);
        let kinds: Vec<usize> = (0..ExitKind::COUNT).filter(|&kind| has_any(kind)).collect();
        let rows = self.shown().map(|(domain, old)| {
            let figures = kinds.iter().map(|&kind| {
                let before = old.map(|old| old.exits[kind]);
                right(self.per_second(domain.exits[kind], before), FIGURE.into())
            });
            Row::new(std::iter::once(domain.name.clone()).chain(figures).collect::<Vec<String>>())
        });
        let header = std::iter::once("Exits of".to_owned()).chain(kinds.iter().map(|&kind| {
            let name: String = ExitKind::ALL[kind].label().chars().take(FIGURE.into()).collect();
            right(name, FIGURE.into())
        }));
        let widths =
            std::iter::once(Constraint::Fill(1)).chain(kinds.iter().map(|_| Constraint::Length(FIGURE)));
        Table::new(rows, widths.collect::<Vec<_>>())
            .header(Row::new(header.collect::<Vec<_>>()).style(reversed()))
    }
}

fn right(value: impl ToString, width: usize) -> String {
    format!("{:>width$}", value.to_string())
}

/// A bar of up to four cells for eighths of the machine's memory.
fn bar(eighths: u64) -> &'static str {
    match eighths {
        0 => "▏",
        1 => "▌",
        2 => "█",
        3 | 4 => "██",
        5 | 6 => "███",
        _ => "████",
    }
}

/// A figure in at most five characters.
fn short(number: u64) -> String {
    match number {
        0..=99_999 => number.to_string(),
        100_000..=9_999_999 => format!("{}k", number / 1_000),
        10_000_000..=9_999_999_999 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::control::wire::{Account, Machine, State};
    use ratatui::{Terminal, backend::TestBackend};
    use std::time::{Duration, Instant};

    fn snapshot(taken: Instant, hypercalls: u64) -> Snapshot {
        let mut domain = Domain {
            id: 1,
            name: "mesh1".into(),
            image: "mesh".into(),
            cores: vec![1],
            vcpus: 1,
            memory_mib: 32,
            state: State::Running,
            exits: [0; ExitKind::COUNT],
            events_in: 0,
            events_out: 0,
            messages_in: hypercalls * 10,
            messages_out: 0,
            messages_lost: 0,
            liars: 0,
            restarts: 0,
            recovery_ticks: None,
        };
        domain.exits[ExitKind::Hypercall as usize] = hypercalls;
        domain.exits[ExitKind::Rdmsr as usize] = 1;
        let machine = Machine {
            cores: 4,
            tsc_khz: 1000,
            tsc: 61_000_000 + 10_000 * (hypercalls - 100),
            frames_total: 2560,
            frames_free: 1280,
            ..Machine::default()
        };
        let task = Account {
            number: 0,
            name: "monitor".into(),
            worked: 250_000 * (hypercalls / 100),
            paid: 100_000 * (hypercalls / 100),
            polls: hypercalls,
            ..Account::default()
        };
        let core =
            Account { number: 3, is_core: true, paid: 150_000 * (hypercalls / 100), ..Account::default() };
        Snapshot { taken, machine, domains: vec![domain], accounts: vec![Some(vec![task, core])] }
    }

    #[test]
    fn a_small_terminal_shows_rates() {
        let now = Instant::now();
        let (old, new) = (snapshot(now, 100), snapshot(now + Duration::from_secs(2), 300));
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let mut screen = |tasks| {
            let page = Page::new("bochs", &old, &new, 0, tasks);
            terminal.draw(|frame| page.draw(frame)).unwrap();
            terminal.backend().to_string()
        };
        let tasks = screen(true);
        assert!(tasks.contains("monitor 0      25.0%   10.0%    100"), "{tasks}");
        assert!(tasks.contains("core 3          0.0%   15.0%      0"), "{tasks}");
        let screen = screen(false);
        assert!(screen.contains("atoll on bochs: 4 cores, 1 domains, up 0:01:03"), "{screen}");
        assert!(screen.contains("memory 5 of 10 MiB"), "{screen}");
        assert!(screen.contains("   100") && screen.contains("  1000"), "{screen}");
        assert!(screen.contains("hyper rdmsr"), "kinds that nobody had take no room: {screen}");
    }

    #[test]
    fn a_page_as_json_has_each_task_below_its_domain() {
        let now = Instant::now();
        let (old, new) = (snapshot(now, 100), snapshot(now + Duration::from_secs(2), 300));
        let page = super::super::json::page(&old, &new);
        assert_eq!(page["ticks"], 2_000_000);
        let tasks = &page["domains"][0]["tasks"];
        assert_eq!((&tasks[0]["name"], &tasks[0]["worked"]), (&"monitor 0".into(), &0.25.into()), "{page}");
        assert_eq!((&tasks[1]["name"], &tasks[1]["paid"]), (&"core 3".into(), &0.15.into()), "{page}");
        assert_eq!(tasks[0]["worked_ticks"], 750_000);
        // Who has not told before has no share yet.
        let silent = Snapshot { accounts: vec![None], ..snapshot(now, 100) };
        assert_eq!(super::super::json::page(&silent, &new)["domains"][0]["tasks"], serde_json::json!([]));
    }

    #[test]
    fn figures_stay_short() {
        for (number, text) in
            [(99_999, "99999"), (100_000, "100k"), (12_345_678, "12M"), (u64::MAX / 1000, "18446744G")]
        {
            assert_eq!(short(number), text);
        }
    }
}
