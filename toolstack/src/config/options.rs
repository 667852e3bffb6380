//! A guest described by a command's options, in the words that `xl` has for them where it has any.

use std::path::Path;

use clap::Args;

const POLICIES: [&str; 3] = ["preserve", "destroy", "restart"];

/// The options.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// The kernel: a bzImage or ELF file with a PVH note, as Linux distributions have it
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<String>,
    /// Or a PC's firmware, such as SeaBIOS's bios-256k.bin: the guest is virtualized in full, and starts as after a reset
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "image"])]
    pub firmware: Option<String>,
    /// Its first ramdisk (initrd)
    #[arg(long, value_name = "FILE")]
    pub ramdisk: Option<String>,
    /// What its disk holds, where it is virtualized in full; written to a copy that goes with the guest
    #[arg(long, value_name = "FILE")]
    pub disk: Option<String>,
    /// Or an image that the machine has already: one of Atoll's own, or one that was uploaded
    #[arg(long, value_name = "IMAGE", conflicts_with = "kernel")]
    pub image: Option<String>,
    /// Handed to the kernel
    #[arg(long, visible_aliases = ["extra", "cmdline"], value_name = "TEXT", allow_hyphen_values = true)]
    pub command_line: Option<String>,
    /// The guest's name [default: the kernel's or firmware's, up to its first `-` or `.`]
    #[arg(long)]
    pub name: Option<String>,
    /// Memory [default: 256 with --kernel or --firmware, 32 with --image]
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u32>,
    /// Virtual CPUs, each on a core of its own [default: 1]
    #[arg(long, value_name = "N")]
    pub vcpus: Option<u32>,
    /// Cores to pin it to, that of virtual CPU 0 first [default: the lowest idle ones]
    #[arg(long, visible_alias = "cpus", value_name = "N,N...", value_delimiter = ',')]
    pub cores: Vec<u32>,
    /// The kernel is one of Atoll's guest kernels: it joins the mesh
    #[arg(long)]
    pub mesh: bool,
    /// How it is virtualized: para, by Xen's PVH interface, or full, as a PC [default: para]
    #[arg(long, value_name = "HOW", value_parser = ["para", "full"])]
    pub virt: Option<String>,
    /// How a full guest's memory is translated: by EPT, or by shadow page tables [default: ept]
    #[arg(long, value_name = "HOW", value_parser = ["ept", "shadow"])]
    pub paging: Option<String>,
    /// Whether processors keep up a full guest's local APIC by themselves, where they can [default: true]
    #[arg(long, value_name = "BOOL")]
    pub assisted_apic: Option<bool>,
    /// A device that another guest serves: KIND,backend=NAME
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// What becomes of it when it powers off [default: preserve]
    #[arg(long, value_name = "POLICY", value_parser = POLICIES)]
    pub on_poweroff: Option<String>,
    /// When it asks for a reboot [default: restart]
    #[arg(long, value_name = "POLICY", value_parser = POLICIES)]
    pub on_reboot: Option<String>,
    /// When it crashes [default: preserve]
    #[arg(long, value_name = "POLICY", value_parser = POLICIES)]
    pub on_crash: Option<String>,
    /// When it does not feed its watchdog [default: preserve]
    #[arg(long, value_name = "POLICY", value_parser = POLICIES)]
    pub on_watchdog: Option<String>,
    /// Whether it is created again after a bad end
    #[arg(long, value_name = "WHEN", value_parser = ["always", "never"])]
    pub restart: Option<String>,
    /// Seconds after which a guest of Atoll's own that hangs is ended
    #[arg(long, value_name = "SECONDS")]
    pub watchdog: Option<u32>,
}

impl Options {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        // A kernel, a firmware or an image is what a guest is made of; other options alone make none.
        self.kernel.is_none() && self.firmware.is_none() && self.image.is_none()
    }

    fn name(&self) -> String {
        let image =
            self.kernel.as_deref().or(self.firmware.as_deref()).or(self.image.as_deref()).unwrap_or_default();
        let file = Path::new(image).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let short = file.split(['-', '.']).next().unwrap_or_default();
        self.name.clone().unwrap_or_else(|| short.to_owned())
    }

    /// The description, and for each of its lines the option that it is from.
    pub(super) fn as_text(&self) -> (String, Vec<&'static str>) {
        let (mut text, mut names) = ("[[guest]]\n".to_owned(), vec!["the options"]);
        let mut line = |key: &str, value: Option<String>, option| {
            if let Some(value) = value {
                text += &format!("{key} = {value}\n");
                names.push(option);
            }
        };
        // A JSON string is a TOML string, and always on one line.
        let quoted = |text: &Option<String>| text.as_ref().map(|text| serde_json::json!(text).to_string());
        let cores = (!self.cores.is_empty()).then(|| format!("{:?}", self.cores));
        line("name", quoted(&Some(self.name())), "--name");
        line("kernel", quoted(&self.kernel), "--kernel");
        line("firmware", quoted(&self.firmware), "--firmware");
        line("ramdisk", quoted(&self.ramdisk), "--ramdisk");
        line("disk", quoted(&self.disk), "--disk");
        line("image", quoted(&self.image), "--image");
        line("command_line", quoted(&self.command_line), "--command-line");
        line("memory_mib", self.memory.map(|mib| mib.to_string()), "--memory");
        line("vcpus", self.vcpus.map(|vcpus| vcpus.to_string()), "--vcpus");
        line("cores", cores, "--cores");
        line("mesh", self.mesh.then(|| "true".to_owned()), "--mesh");
        line("virt", quoted(&self.virt), "--virt");
        line("paging", quoted(&self.paging), "--paging");
        line("assisted_apic", self.assisted_apic.map(|assisted| assisted.to_string()), "--assisted-apic");
        let devices = (!self.device.is_empty()).then(|| serde_json::json!(self.device).to_string());
        line("devices", devices, "--device");
        line("on_poweroff", quoted(&self.on_poweroff), "--on-poweroff");
        line("on_reboot", quoted(&self.on_reboot), "--on-reboot");
        line("on_crash", quoted(&self.on_crash), "--on-crash");
        line("on_watchdog", quoted(&self.on_watchdog), "--on-watchdog");
        line("restart", quoted(&self.restart), "--restart");
        line("watchdog", self.watchdog.map(|seconds| seconds.to_string()), "--watchdog");
        (text, names)
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn options_are_a_description() {
        let options = Options {
            image: Some("hello".into()),
            command_line: Some("a=\"b\" c".into()),
            memory: Some(64),
            cores: vec![2],
            device: vec!["echo,backend=store".into()],
            on_crash: Some("destroy".into()),
            ..Options::default()
        };
        let running = Some((4, 1024));
        let surroundings = Surroundings { images: vec!["hello".into()], running, ..Surroundings::default() };
        let config = Config::of_options(&options, &surroundings).unwrap();
        let expected = GuestConfig {
            command_line: "a=\"b\" c".into(),
            memory_mib: 64,
            devices: vec![device::parse("echo,backend=store", "hello").unwrap()],
            on_crash: Policy::Destroy,
            ..guest("hello", "hello", 2)
        };
        assert_eq!(config.machine.guests, [expected]);
    }

    #[test]
    fn mistakes_name_the_option() {
        let options =
            Options { kernel: Some("/no/such/vmlinuz-6".into()), cores: vec![1, 99], ..Options::default() };
        let error = Config::of_options(&options, &Surroundings::default()).unwrap_err().to_string();
        assert!(error.contains("--kernel: there is no file /no/such/vmlinuz-6\n  remedy: "), "{error}");
        assert!(error.contains("--cores: there is no core 99 on a machine with 4 cores"), "{error}");
    }
}
