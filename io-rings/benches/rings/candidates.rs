//! What is measured: each ring wrapped as a sender and a receiver of [`Line`]s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use io_rings::ring::{Back, Front, Protocol, Ring, Slots64};
use io_rings::rpc::{Caller, Server};
use io_rings::urpc::{ChannelPage, Receiver, Sender};
use ringbuf::traits::{Consumer, Producer, Split};

use crate::measure::{Receive, Run, Send, pair, ping_pong, stream, wait_for};

/// One message of 64 bytes, aligned as the libraries like it best.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub struct Line(pub [u64; 8]);

/// Messages a ring holds. URPC's page holds 63, Xen's page 32.
const SLOTS: usize = 64;

pub struct Candidate {
    pub name: &'static str,
    /// One to beat, and not one of ours.
    pub library: bool,
    /// So many round trips.
    pub latency: fn([usize; 2], u64) -> Run,
    /// So many messages one way, where that makes sense.
    pub stream: Option<fn([usize; 2], u64) -> Run>,
}

pub const CANDIDATES: [Candidate; 9] = [
    Candidate { name: "bare_line", library: false, latency: bare_line, stream: None },
    Candidate {
        name: "urpc",
        library: false,
        latency: |cores, count| {
            let (there, back) = (ChannelPage::new(), ChannelPage::new());
            ping_pong(cores, count, urpc(&there), urpc(&back))
        },
        stream: Some(|cores, count| stream(cores, count, urpc(&ChannelPage::new()))),
    },
    Candidate {
        name: "rpc_depth_1",
        library: false,
        latency: |cores, count| calls(cores, count, 1),
        stream: None,
    },
    Candidate {
        name: "rpc_depth_16",
        library: false,
        latency: |cores, count| calls(cores, count, 16),
        stream: None,
    },
    Candidate { name: "xen_ring", library: false, latency: xen_latency, stream: Some(xen_stream) },
    Candidate {
        name: "rtrb",
        library: true,
        latency: |cores, count| {
            ping_pong(cores, count, rtrb::RingBuffer::new(SLOTS), rtrb::RingBuffer::new(SLOTS))
        },
        stream: Some(|cores, count| stream(cores, count, rtrb::RingBuffer::new(SLOTS))),
    },
    Candidate {
        name: "crossbeam_array_queue",
        library: true,
        latency: |cores, count| ping_pong(cores, count, crossbeam(), crossbeam()),
        stream: Some(|cores, count| stream(cores, count, crossbeam())),
    },
    Candidate {
        name: "ringbuf",
        library: true,
        latency: |cores, count| ping_pong(cores, count, ringbuf(), ringbuf()),
        stream: Some(|cores, count| stream(cores, count, ringbuf())),
    },
    Candidate {
        name: "heapless_spsc",
        library: true,
        latency: |cores, count| {
            let (mut there, mut back) = (Heapless::new(), Heapless::new());
            ping_pong(cores, count, there.split(), back.split())
        },
        stream: Some(|cores, count| stream(cores, count, Heapless::new().split())),
    },
];

/// Two threads hand one number to and fro, each in a line of its own.
fn bare_line(cores: [usize; 2], count: u64) -> Run {
    #[repr(align(128))]
    struct Alone(AtomicU64);
    let lines = [Alone(AtomicU64::new(0)), Alone(AtomicU64::new(0))];
    let is = |line: &Alone, number: u64| (line.0.load(Ordering::Acquire) == number).then_some(());
    pair(
        cores,
        || {
            for number in 1..=count {
                lines[0].0.store(number, Ordering::Release);
                wait_for(|| is(&lines[1], number));
            }
        },
        || {
            for number in 1..=count {
                wait_for(|| is(&lines[0], number));
                lines[1].0.store(number, Ordering::Release);
            }
        },
    )
}

fn urpc(page: &ChannelPage) -> (Sender<'_>, Receiver<'_>) {
    (Sender::new(page), Receiver::new(page))
}

/// So many calls, `depth` of them in flight: a round trip each, but where many are in flight one does not wait for another.
fn calls(cores: [usize; 2], count: u64, depth: usize) -> Run {
    let (there, back) = (ChannelPage::new(), ChannelPage::new());
    let mut caller = Caller::new(Sender::new(&there), Receiver::new(&back), depth);
    let mut server = Server::new(Receiver::new(&there), Sender::new(&back));
    pair(
        cores,
        move || {
            let (mut called, mut answered) = (0, 0);
            while answered < count {
                while called < count && caller.call(&[called; 6]).is_ok() {
                    called += 1;
                }
                let before = answered;
                while let Ok(Some((_, body))) = caller.answer() {
                    answered += 1;
                    assert_eq!(body[0], answered);
                }
                if answered == before {
                    std::hint::spin_loop();
                }
            }
        },
        move || {
            let mut served = 0;
            while served < count {
                let now = server.serve(64, |body| [body[0] + 1; 6]).unwrap_or(0);
                if now == 0 {
                    std::hint::spin_loop();
                }
                served += now as u64;
            }
        },
    )
}

impl Send for Sender<'_> {
    #[inline]
    fn send(&mut self, line: Line) -> bool {
        let [payload @ .., _] = line.0;
        self.try_send(&payload).is_ok()
    }
}

impl Receive for Receiver<'_> {
    #[inline]
    fn receive(&mut self) -> Option<u64> {
        self.try_receive().ok()?.map(|message| std::hint::black_box(message)[0])
    }
}

/// Xen's ring with requests and responses of 64 bytes: 32 slots in a page.
struct Lines;

impl Protocol for Lines {
    type Request = [u64; 8];
    type Response = [u64; 8];
    type Slots = Slots64<8, 32>;
}

fn answer_all(mut back: Back<'_, Lines>, count: u64) {
    let mut answered = 0;
    while answered < count {
        let before = answered;
        while let Ok(Some(request)) = back.take_request() {
            // A request that was taken is owed a response, so there is a slot.
            _ = back.push_response(&request);
            answered += 1;
        }
        if answered == before {
            std::hint::spin_loop();
        } else {
            back.push_and_check_notify();
        }
    }
}

fn xen_latency(cores: [usize; 2], count: u64) -> Run {
    let ring = Ring::<Lines>::new();
    let mut front = Front::new(&ring);
    let back = Back::new(&ring);
    pair(
        cores,
        move || {
            for number in 1..=count {
                _ = front.push_request(&[number; 8]);
                front.push_and_check_notify();
                let response = wait_for(|| front.take_response().ok()?);
                assert_eq!(response[0], number);
            }
        },
        move || answer_all(back, count),
    )
}

/// Requests through the ring, each with its response: twice as many messages as are counted.
fn xen_stream(cores: [usize; 2], count: u64) -> Run {
    let ring = Ring::<Lines>::new();
    let mut front = Front::new(&ring);
    let back = Back::new(&ring);
    pair(
        cores,
        move || {
            let (mut asked, mut answered) = (0, 0);
            while answered < count {
                let before = asked + answered;
                while asked < count && front.push_request(&[asked + 1; 8]).is_ok() {
                    asked += 1;
                }
                if asked + answered != before {
                    front.push_and_check_notify();
                }
                while let Ok(Some(response)) = front.take_response() {
                    answered += 1;
                    assert_eq!(response[0], answered);
                }
                if asked + answered == before {
                    std::hint::spin_loop();
                }
            }
        },
        move || answer_all(back, count),
    )
}

impl Send for rtrb::Producer<Line> {
    #[inline]
    fn send(&mut self, line: Line) -> bool {
        self.push(line).is_ok()
    }
}

impl Receive for rtrb::Consumer<Line> {
    #[inline]
    fn receive(&mut self) -> Option<u64> {
        self.pop().ok().map(|line| std::hint::black_box(line).0[0])
    }
}

fn crossbeam() -> (Arc<ArrayQueue<Line>>, Arc<ArrayQueue<Line>>) {
    let queue = Arc::new(ArrayQueue::new(SLOTS));
    (queue.clone(), queue)
}

impl Send for Arc<ArrayQueue<Line>> {
    #[inline]
    fn send(&mut self, line: Line) -> bool {
        self.push(line).is_ok()
    }
}

impl Receive for Arc<ArrayQueue<Line>> {
    #[inline]
    fn receive(&mut self) -> Option<u64> {
        self.pop().map(|line| std::hint::black_box(line).0[0])
    }
}

fn ringbuf() -> (ringbuf::HeapProd<Line>, ringbuf::HeapCons<Line>) {
    ringbuf::HeapRb::new(SLOTS).split()
}

impl Send for ringbuf::HeapProd<Line> {
    #[inline]
    fn send(&mut self, line: Line) -> bool {
        self.try_push(line).is_ok()
    }
}

impl Receive for ringbuf::HeapCons<Line> {
    #[inline]
    fn receive(&mut self) -> Option<u64> {
        self.try_pop().map(|line| std::hint::black_box(line).0[0])
    }
}

type Heapless = heapless::spsc::Queue<Line, SLOTS>;

impl Send for heapless::spsc::Producer<'_, Line> {
    #[inline]
    fn send(&mut self, line: Line) -> bool {
        self.enqueue(line).is_ok()
    }
}

impl Receive for heapless::spsc::Consumer<'_, Line> {
    #[inline]
    fn receive(&mut self) -> Option<u64> {
        self.dequeue().map(|line| std::hint::black_box(line).0[0])
    }
}
