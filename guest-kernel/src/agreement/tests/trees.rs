//! Trees reach everybody once, whatever the groups.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::agreement::tree::Routes;
use crate::agreement::{CoreSet, Topology};

proptest! {
    #[test]
    fn everybody_is_reached_once(
        members in prop::collection::btree_set(0..16_u8, 1..16),
        root in 0..16_usize,
        cuts in prop::collection::vec(prop::collection::vec(0..4_u8, 16), 0..3),
    ) {
        let root = *members.iter().nth(root % members.len()).unwrap();
        let level = |cut: &Vec<u8>| (1..4).map(|group| (0..16).filter(|&c| cut[c as usize] == group).collect()).collect();
        let topology = Topology::levels(cuts.iter().map(level).collect());
        let set: CoreSet = members.iter().copied().collect();
        let (mut reached, mut next) = (BTreeSet::from([root]), vec![root]);
        while let Some(core) = next.pop() {
            for child in topology.children(set, root, core).iter() {
                prop_assert!(reached.insert(child), "{} is reached twice", child);
                prop_assert_eq!(topology.parent(set, root, child), Some(core));
                next.push(child);
            }
            let routes = Routes::of(&topology, set, core);
            prop_assert_eq!(routes.children(&topology, set, root, core), topology.children(set, root, core));
            prop_assert_eq!(routes.parent(&topology, set, root, core), topology.parent(set, root, core));
        }
        prop_assert_eq!(reached, members);
        prop_assert_eq!(topology.parent(set, root, root), None);
    }
}
