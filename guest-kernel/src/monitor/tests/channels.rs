//! Channels between programs: opened by name, in order, each with its own window.

use super::*;
use crate::agreement::{CoreSet, Topology};
use crate::monitor::News;
use crate::monitor::channels::{ChannelId, NotNow, Unread, WINDOW};
use crate::replica::tests::register;

pub(super) const SERVICE: u64 = 77;

/// Core 2 has a service, and core 1 a channel to it: both ends' numbers.
pub(super) fn connected(seed: u64) -> (Cluster, ChannelId, ChannelId) {
    let mut cluster = Cluster::of_members(4, seed, Topology::flat());
    cluster.core(2).monitor.offer(SERVICE, true);
    cluster.request(2, register("echo", 2, SERVICE));
    cluster.settle();
    let near = cluster.core(1).monitor.open("echo").unwrap();
    cluster.flush(1);
    cluster.settle();
    assert!(cluster.core(1).news.contains(&News::Opened(near)));
    let far = cluster.core(2).news.iter().find_map(|news| match *news {
        News::Accepted(SERVICE, number, 1) => Some(number),
        _ => None,
    });
    (cluster, near, far.unwrap())
}

#[test]
fn lines_come_in_order_and_a_reader_that_sleeps_stops_its_sender_alone() {
    for seed in 1..50 {
        let (mut cluster, near, far) = connected(seed);
        let (mut sent, mut read) = (0, 0);
        while read < 500 {
            match cluster.random.below(4) {
                0 => {
                    while cluster.core(1).monitor.send(near, &[sent; 6]).is_ok() {
                        sent += 1;
                    }
                }
                1 => {
                    while let Some(line) = cluster.core(2).monitor.receive(far) {
                        assert_eq!(line, Unread::Line([read; 6]), "seed {seed}");
                        read += 1;
                    }
                }
                _ => _ = cluster.happen(),
            }
            cluster.flush(1);
            cluster.flush(2);
            assert!(sent - read <= u64::from(WINDOW) * 2);
        }
        while cluster.core(1).monitor.send(near, &[0; 6]) != Err(NotNow::Full) {}
        cluster.flush(1);
        let ticket = cluster.request(1, register("meanwhile", 1, 1));
        cluster.settle();
        assert_eq!(cluster.outcome(1, ticket), Some(Ok(())));
        assert_eq!(cluster.check_end(CoreSet::first(4)), Ok(()));
    }
}

#[test]
fn what_is_not_offered_is_refused_and_what_is_closed_is_told() {
    let (mut cluster, near, far) = connected(3);
    cluster.core(2).monitor.offer(SERVICE, false);
    let refused = cluster.core(3).monitor.open("echo").unwrap();
    assert_eq!(cluster.core(3).monitor.send(refused, &[0; 6]), Err(NotNow::Full), "not yet");
    cluster.flush(3);
    cluster.settle();
    assert!(cluster.core(3).news.contains(&News::Closed(refused)));
    assert_eq!(cluster.core(3).monitor.open("nobody"), None);
    cluster.core(1).monitor.close(near);
    cluster.flush(1);
    cluster.settle();
    assert!(cluster.core(2).news.contains(&News::Closed(far)));
    assert_eq!(cluster.core(2).monitor.send(far, &[0; 6]), Err(NotNow::Closed));
}

#[test]
fn a_death_closes_its_channels() {
    let (mut cluster, near, _) = connected(4);
    cluster.crash(2);
    cluster.settle();
    assert!(cluster.core(1).news.contains(&News::Closed(near)));
}

#[test]
fn who_sends_more_than_there_is_room_for_is_out() {
    let (mut cluster, _, far) = connected(5);
    cluster.hostile.insert(1);
    for _ in 0..=WINDOW {
        cluster.forge(1, 2, [abi::mesh::kind::CHANNEL | u64::from(far) << 32, 0, 0, 0, 0, 0, 0]);
    }
    cluster.settle();
    assert!(cluster.core(2).news.contains(&News::Silenced(1)));
    assert!(cluster.core(2).news.contains(&News::Closed(far)));
    assert_eq!(cluster.members(), CoreSet::first(4), "one accuser is not enough");
}
