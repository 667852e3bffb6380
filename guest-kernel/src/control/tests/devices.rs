//! Devices as the toolstack asks for them: their nodes are there while both guests are.

use super::*;
use abi::control::wire::DeviceConfig;

fn user(name: &str, core: u32) -> GuestConfig {
    let parameters = vec![("mode".into(), "w".into())];
    let device = DeviceConfig { kind: "echo".into(), backend: "store".into(), parameters };
    GuestConfig { devices: vec![device.clone(), device], ..guest(name, Some(core)) }
}

impl Machine {
    fn node(&mut self, path: &str) -> Option<(String, Vec<String>)> {
        let request = Request::XenstoreList { path: path.into(), after: None };
        let Ok(Reply::Xenstore { nodes, .. }) = self.ask(request) else { return None };
        let first = nodes.into_iter().next()?;
        Some((String::from_utf8(first.value).unwrap(), first.permissions))
    }

    fn value(&mut self, path: &str) -> String {
        self.node(path).unwrap_or_else(|| panic!("no {path}")).0
    }

    fn id(&mut self, name: &str) -> u16 {
        self.list().iter().find(|domain| domain.name == name).unwrap().id
    }
}

#[test]
fn the_nodes_are_those_of_xens_toolstack() {
    let mut machine = Machine::new(vec![guest("store", Some(1)), user("web", 2)]);
    let (back, front) = (machine.id("store"), machine.id("web"));
    for index in 0..2 {
        let here = format!("/local/domain/{front}/device/echo/{index}");
        let there = format!("/local/domain/{back}/backend/echo/{front}/{index}");
        for (path, expected) in [
            (format!("{here}/backend"), there.clone()),
            (format!("{here}/backend-id"), format!("{back}")),
            (format!("{here}/state"), "1".into()),
            (format!("{there}/frontend"), here.clone()),
            (format!("{there}/frontend-id"), format!("{front}")),
            (format!("{there}/state"), "1".into()),
            (format!("{there}/online"), "1".into()),
            (format!("{there}/mode"), "w".into()),
        ] {
            assert_eq!(machine.value(&path), expected, "{path}");
        }
        let permissions = [format!("n{front}"), format!("r{back}")];
        assert_eq!(machine.node(&format!("{here}/state")).unwrap().1, permissions);
        let permissions = [format!("n{back}"), format!("r{front}")];
        assert_eq!(machine.node(&format!("{there}/mode")).unwrap().1, permissions);
    }
}

#[test]
fn whichever_end_goes_the_nodes_go_and_come_back_with_it() {
    let mut machine = Machine::new(vec![guest("store", Some(1)), user("web", 2)]);
    for _ in 0..3 {
        let (back, front) = (machine.id("store"), machine.id("web"));
        machine.ask(Request::Destroy("web".into())).unwrap();
        assert_eq!(machine.node(&format!("/local/domain/{back}/backend/echo")), None);
        machine.ask(Request::Create(user("web", 2))).unwrap();
        let new = machine.id("web");
        assert_ne!(new, front);
        assert_eq!(machine.value(&format!("/local/domain/{back}/backend/echo/{new}/1/state")), "1");

        machine.ask(Request::Destroy("store".into())).unwrap();
        assert_eq!(machine.node(&format!("/local/domain/{new}/device/echo")), None);
        machine.ask(Request::Create(guest("store", Some(1)))).unwrap();
        let back = machine.id("store");
        assert_eq!(
            machine.value(&format!("/local/domain/{new}/device/echo/0/backend-id")),
            format!("{back}")
        );
    }
}

#[test]
fn devices_that_cannot_be_are_refused() {
    let mut machine = Machine::new(vec![guest("store", Some(1))]);
    let with = |change: fn(&mut DeviceConfig)| {
        let mut config = user("web", 2);
        config.devices.iter_mut().for_each(change);
        Request::Create(config)
    };
    machine.refused(with(|device| device.backend = "nobody".into()), "nobody");
    machine.refused(with(|device| device.backend = "web".into()), "could serve");
    machine.refused(with(|device| device.backend = OWN_NAME.into()), "could serve");
    machine.refused(with(|device| device.kind = "../x".into()), "no name");
    machine.refused(with(|device| device.parameters[0].0 = "state/".into()), "no name");
    machine.refused(with(|device| device.parameters[0].1 = "v".repeat(300)), "too long");
    let mut config = user("web", 2);
    config.devices = vec![config.devices[0].clone(); 17];
    machine.refused(Request::Create(config), "17 devices");
    assert_eq!(machine.list().len(), 2);
}
