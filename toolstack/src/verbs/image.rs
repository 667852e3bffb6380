//! `image`: a CD image that boots without a toolstack; and the running machine's own images.

use std::path::Path;

use abi::control::wire::StoredImage;
use serde_json::json;

use crate::{
    archive,
    error::Result,
    images::Images,
    iso,
    output::{self, grouped},
    places,
    upload::hexadecimal,
};

/// Writes a CD image. Its hypervisor gets an empty command line: on a real machine there is no emulator to end.
pub fn run(file: Option<&Path>, to: &Path, images: Option<&Path>) -> Result<()> {
    let config = super::load(file, images)?;
    let images = Images::find(images)?;
    let scratch = places::run_directory("image");
    places::make(&scratch)?;
    let archive = archive::build(&images, &config)?;
    iso::write(&archive::read_image(&images.hypervisor)?, Some(&archive), "", &scratch, to)?;
    output::say(format!("wrote {}: {} guests", to.display(), config.machine.guests.len()));
    Ok(())
}

/// Lists the images that guests can be made of.
pub fn list(as_json: bool) -> Result<()> {
    let images = super::attached()?.images()?;
    if as_json {
        let object = |image: &StoredImage| json!({ "name": image.name, "bytes": image.bytes, "sha256": image.sha256.as_ref().map(hexadecimal) });
        output::say_json(&images.iter().map(object).collect::<Vec<_>>());
        return Ok(());
    }
    let mut table = output::table(&["Name", "Bytes", "From", "SHA-256"]);
    for image in images {
        let (from, sum) = match &image.sha256 {
            Some(sum) => ("upload", hexadecimal(sum)),
            None => ("boot", String::new()),
        };
        table.add_row([image.name, grouped(image.bytes), from.to_owned(), sum]);
    }
    output::say(output::rendered(table, &[1]));
    Ok(())
}

/// Forgets an image that was uploaded.
pub fn remove(name: &str) -> Result<()> {
    super::attached()?.remove_image(name)?;
    output::say(format!("removed {name}"));
    Ok(())
}
