//! Devices as a description has them, in the manner of `xl.cfg`'s own: `"KIND,backend=NAME,KEY=VALUE..."`.

use abi::control::wire::DeviceConfig;

/// Reads one; or tells what is wrong, and the remedy.
pub(super) fn parse(text: &str, guest: &str) -> Result<DeviceConfig, (String, &'static str)> {
    let form = "write \"KIND,backend=NAME\", and further KEY=VALUE behind commas";
    let mut parts = text.split(',').map(str::trim);
    let mut device = DeviceConfig { kind: parts.next().unwrap_or_default().to_owned(), ..Default::default() };
    for part in parts {
        match part.split_once('=') {
            Some(("backend", name)) => device.backend = name.to_owned(),
            Some((key, value)) => device.parameters.push((key.to_owned(), value.to_owned())),
            None => return Err((format!("`{part}` is nothing that a device has"), form)),
        }
    }
    let names = std::iter::once(&device.kind).chain(device.parameters.iter().map(|(name, _)| name));
    for name in names {
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 16 || !name.bytes().all(sound) {
            return Err((
                format!("`{name}` is no kind of device, and no parameter of one"),
                "use 1 to 16 of a-z 0-9 -",
            ));
        }
    }
    if device.backend.is_empty() {
        return Err((format!("nobody is named to serve the device `{text}`"), form));
    }
    if device.backend == guest {
        return Err((format!("`{guest}` cannot serve itself"), "name another guest behind `backend=`"));
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_a_back_end_and_parameters() {
        let device = parse("echo,backend=store, mode=r,path=a=b", "web").unwrap();
        assert_eq!((device.kind.as_str(), device.backend.as_str()), ("echo", "store"));
        let parameters = [("mode", "r"), ("path", "a=b")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(device.parameters, parameters);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, expected) in [
            ("echo", "nobody is named"),
            ("echo,backend=", "nobody is named"),
            ("echo,store", "nothing that a device has"),
            ("Echo,backend=a", "no kind of device"),
            (",backend=a", "no kind of device"),
            ("echo,backend=a,=1", "no kind of device"),
            ("echo,backend=web", "cannot serve itself"),
        ] {
            let (what, remedy) = parse(text, "web").unwrap_err();
            assert!(what.contains(expected) && !remedy.is_empty(), "{text}: {what}");
        }
    }
}
