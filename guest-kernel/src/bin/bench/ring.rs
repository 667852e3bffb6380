//! A request ring between two virtual CPUs on two cores: the first is the front end, the second the back end. Ring and data
//! are pages that were granted, and both use them where they are mapped: Xen takes a page from where its owner had it. Both
//! halt when they have nothing to do, and send events only where the other asked for one.
//!
//! Each side adds up the ticks of its own work, and those of its hypercalls, apart. The sums are divided by the number of
//! requests.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::SeqCst};

use abi::address::PAGE_SIZE;
use abi::xen::event_channel::Port;
use alloc::boxed::Box;
use guest_kernel::events::SharedInfo;
use guest_kernel::grants::{Access, Refused, Table, Window};
use guest_kernel::platform::atoll::grants::Calls;
use guest_kernel::platform::atoll::{Atoll, cpu, hypercall, memory, shared_info};
use guest_kernel::say;
use io_rings::ring::{Back, Front, Protocol, Ring, Slots64};

use crate::second::{self, Second};
use crate::{phase, rest_ticks};

/// Rounds of so many requests as are under way at once.
const ROUNDS: u64 = 1000;
/// Words of the data page that each request is about.
const WORDS: usize = 8;

/// Messages of the size of the block device's.
struct Sum;

impl Protocol for Sum {
    type Request = [u64; 14];
    type Response = [u64; 2];
    type Slots = Slots64<14, 32>;
}

/// A page of its own for the ring.
#[repr(C, align(4096))]
struct RingPage(Ring<Sum>);

/// What requests are about.
#[repr(C, align(4096))]
struct Data([[AtomicU64; WORDS]; PAGE_SIZE as usize / 8 / WORDS]);

/// What the back end needs: the pages where it has them mapped, and the port to answer through.
static RING: AtomicPtr<Ring<Sum>> = AtomicPtr::new(core::ptr::null_mut());
static DATA: AtomicPtr<Data> = AtomicPtr::new(core::ptr::null_mut());
static REPLY: AtomicU64 = AtomicU64::new(0);
static BACK: Sums = Sums::new();

/// What one side did.
struct Sums {
    /// Ticks of its own.
    work: AtomicU64,
    /// Ticks of its hypercalls, and how many.
    calls: AtomicU64,
    count: AtomicU64,
}

impl Sums {
    const fn new() -> Self {
        Self { work: AtomicU64::new(0), calls: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    /// Only the side itself writes them, so they need not be counted in one step.
    fn add(to: &AtomicU64, ticks: u64) {
        to.store(to.load(SeqCst) + ticks, SeqCst);
    }

    fn worked(&self, since: u64, empty: u64) {
        Self::add(&self.work, cpu::tsc().wrapping_sub(since).saturating_sub(empty));
    }

    fn notify(&self, port: Port, empty: u64) {
        let before = cpu::tsc();
        // A refusal is seen as an answer that does not come.
        let _ = hypercall::send(port);
        Self::add(&self.calls, cpu::tsc().wrapping_sub(before).saturating_sub(empty));
        Self::add(&self.count, 1);
    }

    fn read(&self) -> [u64; 3] {
        [&self.work, &self.calls, &self.count].map(|sum| sum.load(SeqCst))
    }
}

/// Measures and prints all of them. `window`: guest-physical pages where nothing is.
pub fn measure(
    platform: &Atoll,
    second: &Second,
    table: &mut Table<'_>,
    domain: u16,
    window: u64,
    empty: u64,
) {
    let (ring, data) = match share(table, domain, window) {
        Ok(pages) => pages,
        Err(refused) => return say!("bench: ring: its pages are not granted: {refused:?}"),
    };
    RING.store(core::ptr::from_ref(ring).cast_mut(), SeqCst);
    DATA.store(core::ptr::from_ref(data).cast_mut(), SeqCst);
    REPLY.store(second.back.into(), SeqCst);
    let Some(shared) = shared_info() else { return };
    let mut front = Frontend { front: Front::new(ring), data, shared, second, sums: Sums::new(), empty };
    if second.serve().is_none() {
        return say!("bench: ring: the second virtual CPU does not answer");
    }
    for (depth, exits, names) in [
        (1, "ring_qd1_exits", ["ring_qd1_front", "ring_qd1_back", "ring_qd1_hypervisor", "ring_qd1_whole"]),
        (
            32,
            "ring_qd32_exits",
            ["ring_qd32_front", "ring_qd32_back", "ring_qd32_hypervisor", "ring_qd32_whole"],
        ),
    ] {
        let (before, back_before) = (front.sums.read(), BACK.read());
        let (mut whole, mut done) = (0, None);
        phase(exits, [rest_ticks(platform); 2], || {
            let start = cpu::tsc();
            done = (0..ROUNDS).try_for_each(|round| front.round(round, depth));
            whole = cpu::tsc().wrapping_sub(start);
        });
        if done.is_none() {
            return say!("bench: {exits}: the ring stopped, or its answers are wrong");
        }
        let [front_work, front_calls, front_count] = difference(front.sums.read(), before);
        let [back_work, back_calls, back_count] = difference(BACK.read(), back_before);
        let requests = ROUNDS * depth;
        for (name, sum) in names.into_iter().zip([front_work, back_work, front_calls + back_calls, whole]) {
            let each = (sum + requests / 2) / requests;
            say!(r#"bench: {{"name":"{name}","median":{each},"unit":"instructions","samples":{requests}}}"#);
        }
        let calls = ((front_count + back_count) * 1000).div_ceil(requests);
        say!(
            r#"bench: {{"name":"ring_qd{depth}_calls","median":{calls},"unit":"hypercalls/1000","samples":{requests}}}"#
        );
    }
}

fn difference(now: [u64; 3], before: [u64; 3]) -> [u64; 3] {
    core::array::from_fn(|at| now[at].wrapping_sub(before[at]))
}

/// Grants two pages to this domain, and maps what was granted.
fn share(
    table: &mut Table<'_>,
    domain: u16,
    window: u64,
) -> Result<(&'static Ring<Sum>, &'static Data), Refused> {
    memory::map_window(window..window + 2 * PAGE_SIZE).map_err(|_| Refused::NoRoom)?;
    let mut window = Window::new(window, 2);
    let mut map = |page: u64| {
        let frame = (page / PAGE_SIZE) as u32;
        let reference = table.grant(domain, frame, Access::Write).ok_or(Refused::NoRoom)?;
        window.map(&Calls, domain, reference, Access::Write).map(|mapped| mapped.address)
    };
    let zeroes = core::array::from_fn(|_| core::array::from_fn(|_| AtomicU64::new(0)));
    let ring = map(Box::leak(Box::new(RingPage(Ring::new()))) as *const RingPage as u64)?;
    let data = map(Box::leak(Box::new(Data(zeroes))) as *const Data as u64)?;
    // SAFETY: pages of these kinds, mapped there for good, of which every byte pattern is valid; nobody uses them at the
    // addresses where they were made.
    Ok(unsafe { (&(*(ring as *const RingPage)).0, &*(data as *const Data)) })
}

struct Frontend<'a> {
    front: Front<'static, Sum>,
    data: &'static Data,
    shared: &'static SharedInfo,
    second: &'a Second,
    sums: Sums,
    empty: u64,
}

impl Frontend<'_> {
    /// So many requests at once, and all their answers.
    fn round(&mut self, round: u64, depth: u64) -> Option<()> {
        let mut begun = cpu::tsc();
        for id in 0..depth {
            let words = self.data.0.get(id as usize)?;
            words[0].store(round + id, SeqCst);
            let mut request = [0; 14];
            request[0] = id;
            self.front.push_request(&request).ok()?;
        }
        if self.front.push_and_check_notify() {
            self.sums.worked(begun, self.empty);
            self.sums.notify(self.second.there, self.empty);
            begun = cpu::tsc();
        }
        let mut missing = depth;
        loop {
            while let Some([id, sum]) = self.front.take_response().ok()? {
                if sum != round + id {
                    return None;
                }
                missing = missing.checked_sub(1)?;
            }
            if missing == 0 {
                self.sums.worked(begun, self.empty);
                return Some(());
            }
            if !self.front.final_check().ok()? {
                self.sums.worked(begun, self.empty);
                if !self.shared.pending() {
                    cpu::halt_until_interrupt();
                }
                begun = cpu::tsc();
                self.shared.take_port(0, self.second.back);
            }
        }
    }
}

/// The back end's life, until it is told otherwise.
pub fn serve(shared: &SharedInfo) {
    // SAFETY: the front end has stored addresses of pages of these kinds, mapped for good, before it gave the order.
    let (mut back, data) = unsafe { (Back::new(&*RING.load(SeqCst)), &*DATA.load(SeqCst)) };
    let reply = REPLY.load(SeqCst) as Port;
    let empty = crate::empty_pair();
    let mut begun = cpu::tsc();
    while second::is_serving() {
        while let Ok(Some(request)) = back.take_request() {
            let words = data.0.get(request[0] as usize).map_or(&[][..], |words| words);
            let sum = words.iter().map(|word| word.load(SeqCst)).sum();
            // Every request taken has a slot for its response.
            let _ = back.push_response(&[request[0], sum]);
        }
        if back.push_and_check_notify() {
            BACK.worked(begun, empty);
            BACK.notify(reply, empty);
            begun = cpu::tsc();
        }
        match back.final_check() {
            Ok(true) => {}
            Ok(false) => {
                BACK.worked(begun, empty);
                cpu::halt_until_interrupt();
                begun = cpu::tsc();
                second::take(shared);
            }
            Err(_) => return,
        }
    }
}
