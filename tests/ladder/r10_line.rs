//! The control line: garbage costs nothing but itself, and whoever comes back is heard.

use abi::control::{
    frame,
    wire::{Request, ToControl, VERSION},
};
use ladder::{Check, Result, Stage, ensure, mesh, stage, switchboard::Switchboard, wrong};
use toolstack::{control::Client, machine::Kind};

pub fn checks() -> Vec<Check> {
    vec![Check::new("r10_line::garbage_reconnects_and_losses_are_survived", survived)]
}

fn survived(stage: &mut Stage) -> Result<()> {
    let spec = stage::spec(Kind::Bochs, &mesh::machine(2, ""), stage.directory("line"))?;
    let mut machine = stage.start(&spec)?;
    let line = machine.take_line().ok_or_else(|| wrong("the machine has no control line"))?;
    let board = Switchboard::new(line)?;
    let client = board.connect(spec.kind.reply_patience())?;
    client.hello(spec.kind.boot_patience()).map_err(|error| machine.explain(error))?;
    let first = client.list()?;
    ensure!(first.len() == 2, "there are {} domains", first.len());

    for garbage in noises() {
        board.inject(&garbage)?;
        ensure!(client.list()?.len() == 2, "after {} bytes of garbage the list is another", garbage.len());
    }

    // The toolstack goes away in the midst of a frame, and another comes.
    let frame = encoded(Request::Info)?;
    board.inject(&frame[..frame.len() / 2])?;
    drop(client);
    for version in [VERSION, VERSION + 1, VERSION] {
        let client: Client = board.connect(spec.kind.reply_patience())?;
        let answer = client.ask(Request::Hello { version });
        ensure!(answer.is_ok() == (version == VERSION), "Hello in version {version}: {answer:?}");
        ensure!(version != VERSION || client.machine()?.cores == 2, "the machine changed");
        if version == VERSION {
            client.pause("mesh1")?;
            client.unpause("mesh1")?;
        }
    }
    let client = board.connect(spec.kind.reply_patience())?;
    client.hello(spec.kind.reply_patience())?;

    // Requests are lost, and answers. An order that was carried out twice would be refused the second time.
    board.lose(3);
    for _ in 0..4 {
        client.pause("mesh1")?;
        client.unpause("mesh1")?;
    }
    client.destroy("mesh1")?;
    client.create(mesh::member(1, 32, ""))?;
    board.lose(0);
    ensure!(client.list()?.len() == 2, "after orders on a bad line there are other domains than before");
    client.stop(abi::exit_code::ExitCode::Success as u8)?;
    let outcome = machine.wait(ladder::watch::PATIENCE)?;
    ensure!(outcome.is_success(), "ended with {:#x}", outcome.code);
    Ok(())
}

/// Zeroes, no zeroes, a frame longer than any, and frames that are damaged, or of nonsense.
fn noises() -> Vec<Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let random = (0..2000).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    let mut damaged = encoded(Request::List).unwrap_or_default();
    if let Some(byte) = damaged.get_mut(2) {
        *byte ^= 0x10;
    }
    vec![
        vec![0; 100],
        vec![0xff; frame::MAX_FRAME + 100],
        random.collect(),
        damaged,
        b"\x02\x01\x00".to_vec(),
    ]
}

fn encoded(request: Request) -> Result<Vec<u8>> {
    frame::encode(&ToControl { id: 77, request }).ok_or_else(|| wrong("the request is too long for a frame"))
}
