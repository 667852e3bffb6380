use super::*;
use proptest::prelude::*;
use std::string::String;
use std::vec::Vec as Bytes;

fn read(device: &mut FwCfg, key: u16, bytes: usize) -> Bytes<u8> {
    device.select(key);
    (0..bytes).map(|_| device.read()).collect()
}

/// As firmware reads the directory: name, size, selector.
fn directory(device: &mut FwCfg) -> Bytes<(String, u32, u16)> {
    device.select(key::FILE_DIRECTORY);
    let take =
        |device: &mut FwCfg, bytes: usize| -> Bytes<u8> { (0..bytes).map(|_| device.read()).collect() };
    let files = u32::from_be_bytes(take(device, 4).try_into().unwrap());
    (0..files)
        .map(|_| {
            let size = u32::from_be_bytes(take(device, 4).try_into().unwrap());
            let key = u16::from_be_bytes(take(device, 2).try_into().unwrap());
            assert_eq!(take(device, 2), [0, 0]);
            let name = take(device, NAME);
            let end = name.iter().position(|&byte| byte == 0).unwrap();
            (String::from_utf8(name[..end].to_vec()).unwrap(), size, key)
        })
        .collect()
}

#[test]
fn who_it_is() {
    let mut device = FwCfg::new();
    device.describe(256 << 20, 2, 3).unwrap();
    assert_eq!(read(&mut device, key::SIGNATURE, 6), b"QEMU\0\0");
    assert_eq!(read(&mut device, key::ID, 4), [1, 0, 0, 0], "no DMA");
    assert_eq!(read(&mut device, key::RAM_SIZE, 8), [0, 0, 0, 0x10, 0, 0, 0, 0]);
    assert_eq!(
        [key::NB_CPUS, key::MAX_CPUS, 0x1234].map(|key| read(&mut device, key, 2)),
        [[2, 0], [3, 0], [0, 0]].map(Bytes::from)
    );
    assert!(directory(&mut device).is_empty());
}

#[test]
fn files() {
    let mut device = FwCfg::new();
    device.describe(0, 1, 1).unwrap();
    device.add_file("bootorder", b"/pci@i0cf8/ide@1,1/drive@0/disk@0\n\0").unwrap();
    device.add_memory_map(&[(0, 0xa_0000, 1), (0x10_0000, 0xff0_0000, 1)]).unwrap();
    let listed = directory(&mut device);
    assert_eq!(listed, [("bootorder".into(), 35, 0x20), ("etc/e820".into(), 40, 0x21)]);
    assert_eq!(&read(&mut device, 0x20, 10), b"/pci@i0cf8");
    assert_eq!(
        read(&mut device, 0x21, 41)[20..],
        [0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x0f, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    );
    assert_eq!(device.add_file("", b""), Err(Full));
    assert_eq!(device.add_file(&"n".repeat(NAME), b""), Err(Full));
    assert_eq!(device.add_file(&"n".repeat(NAME - 1), b""), Ok(()));
    assert_eq!(directory(&mut device).len(), 3);
}

#[test]
fn there_is_an_end() {
    let mut device = FwCfg::new();
    assert_eq!(device.add_file("large", &[1; STORE + 1]), Err(Full));
    assert_eq!(device.add_file("large", &[1; STORE]), Ok(()));
    assert_eq!(device.add(5, &[1]), Err(Full));
    assert_eq!(device.add_memory_map(&[(0, 0, 1); 17]), Err(Full));
    for _ in 1..ITEMS {
        assert_eq!(device.add(6, &[]), Ok(()));
    }
    assert_eq!(device.add(6, &[]), Err(Full));
    assert_eq!(read(&mut device, 0x20, STORE + 2)[STORE - 1..], [1, 0, 0]);
}

proptest! {
    /// What was put in comes out, and nothing else: neither a neighbour's bytes nor what lies behind.
    #[test]
    fn contents_come_back(contents: Bytes<Bytes<u8>>, skips: [u16; 8]) {
        let mut device = FwCfg::new();
        let mut kept = Bytes::new();
        for bytes in contents {
            if device.add_file("file", &bytes).is_ok() {
                kept.push(bytes);
            }
        }
        for (index, bytes) in kept.iter().enumerate() {
            let mut wanted = bytes.clone();
            wanted.extend([0; 3]);
            prop_assert_eq!(read(&mut device, key::FIRST_FILE + index as u16, wanted.len()), wanted);
        }
        prop_assert_eq!(directory(&mut device).len(), kept.len());
        for key in skips {
            device.select(key);
            device.offset = usize::MAX - 1;
            prop_assert_eq!([device.read(), device.read(), device.read()], [0; 3]);
        }
    }
}
