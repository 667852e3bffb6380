//! `image`: a CD image that boots without a toolstack.

use std::path::Path;

use crate::{archive, error::Result, images::Images, iso, output, places};

/// Writes it. Its hypervisor gets an empty command line: on a real machine there is no emulator to end.
pub fn run(file: Option<&Path>, to: &Path, images: Option<&Path>) -> Result<()> {
    let config = super::load(file, images)?;
    let images = Images::find(images)?;
    let scratch = places::run_directory("image");
    places::make(&scratch)?;
    let archive = archive::build(&images, &config)?;
    iso::write(&archive::read_image(&images.hypervisor)?, &archive, "", &scratch, to)?;
    output::say(format!("wrote {}: {} guests", to.display(), config.machine.guests.len()));
    Ok(())
}
