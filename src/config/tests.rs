//! Layers, places and rules, over files in a temporary directory.

mod errors;
mod printed;
mod properties;
mod variables;

use std::fs;

use tempfile::TempDir;

use super::*;

const VALID: &str = "[link]\nconnect = \"172.16.2.163\"\n\
                     [security]\nmode = \"plaintext\"\npeer_addresses = [\"172.16.2.163\"]\n";

struct Files {
    directory: TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
            fs::write(path, text).expect("the file");
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn sources(&self) -> Sources {
        Sources {
            name: "tun0".to_owned(),
            vendor_dir: self.directory.path().join("vendor"),
            config_dir: self.directory.path().join("etc"),
            config_file: None,
            environment: Vec::new(),
            set: Vec::new(),
        }
    }

    /// The errors without the temporary directory's path.
    fn errors(&self, sources: &Sources) -> Vec<String> {
        let prefix = format!("{}/", self.directory.path().display());
        match load(sources) {
            Ok(_) => Vec::new(),
            Err(errors) => {
                errors.to_string().lines().map(|line| line.replace(&prefix, "")).collect()
            }
        }
    }
}

fn own(text: &str) -> Files {
    Files::new(&[("etc/tun0.toml", text)])
}

fn errors_of(text: &str) -> Vec<String> {
    let files = own(text);
    files.errors(&files.sources())
}

fn settings_of(text: &str) -> Settings {
    let files = own(text);
    load(&files.sources()).expect("a valid configuration").settings
}

fn with_environment(variables: &[(&str, &str)]) -> (Files, Sources) {
    let files = own(VALID);
    let mut sources = files.sources();
    sources.environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (files, sources)
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let settings = settings_of(VALID);
    assert_eq!(settings.interface.name, "tun0");
    assert_eq!((settings.interface.mtu, settings.interface.offload), (1500, Offload::Auto));
    assert_eq!(settings.link.connect[0].to_string(), "172.16.2.163:4641");
    assert_eq!(settings.link.keepalive, std::time::Duration::from_secs(10));
    assert_eq!(settings.link.reconnect.min, std::time::Duration::from_millis(200));
    assert_eq!((settings.queue.limit, settings.queue.ecn), (8 << 20, true));
    assert_eq!(settings.security.allowed_sources, None);
    assert_eq!(settings.metrics.listen, None);
}

#[test]
fn each_layer_overrides_the_one_below() {
    let mtu = |value: u32| format!("[interface]\nmtu = {value}\n");
    let layers = [
        ("vendor/10.toml", mtu(2001)),
        ("vendor/20.toml", mtu(2002)),
        ("etc/tunnel64d.toml", mtu(2003)),
        ("etc/tunnel64d.d/10.toml", mtu(2004)),
        ("etc/tunnel64d.d/20.toml", mtu(2005)),
        ("etc/tun0.toml", format!("{VALID}{}", mtu(2006))),
        ("etc/tun0.d/10.toml", mtu(2007)),
        ("etc/tun0.d/9.toml", mtu(2008)),
    ];
    for top in 0..layers.len() {
        let mut files: Vec<_> =
            layers[..=top].iter().map(|(name, text)| (*name, text.as_str())).collect();
        // Something has to make it valid while the instance's own file isn't there.
        let below = format!("{VALID}{}", mtu(2000));
        files.push(("vendor/00.toml", &below));
        let files = Files::new(&files);
        let loaded = load(&files.sources()).expect("a valid configuration");
        let mtu = loaded.origins.iter().find(|leaf| leaf.path[1] == "mtu").expect("mtu");
        assert_eq!(usize::from(loaded.settings.interface.mtu), 2001 + top);
        assert!(mtu.origin.to_string().starts_with(&files.path(layers[top].0)), "{mtu:?}");
    }
    let files: Vec<_> = layers.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let files = Files::new(&files);
    let mut sources = files.sources();
    sources.environment = vec![("TUNNEL64D_INTERFACE__MTU".into(), "2009".into())];
    assert_eq!(load(&sources).expect("valid").settings.interface.mtu, 2009);
    sources.set = vec!["interface.mtu=2010".into(), "interface.mtu=2011".into()];
    assert_eq!(load(&sources).expect("valid").settings.interface.mtu, 2011);
}

#[test]
fn lists_are_replaced_and_routes_merged_by_destination_however_it_is_spelt() {
    let files = Files::new(&[
        (
            "etc/tunnel64d.toml",
            "[interface]\naddresses = [\"fc00::1/64\"]\n[interface.routes]\n\
             \"fc00:4::/64\" = { via = \"fc00::10\", metric = 5 }\n\"10.0.0.0/8\" = {}\n",
        ),
        (
            "etc/tun0.toml",
            &format!(
                "{VALID}[interface]\naddresses = [\"fc00::2/64\", \"10.0.0.1/24\"]\n\
                 [interface.routes.\"fc00:4:0:0::/64\"]\nmetric = 7\n"
            ),
        ),
    ]);
    let loaded = load(&files.sources()).expect("valid");
    let interface = &loaded.settings.interface;
    assert_eq!(interface.addresses.len(), 2);
    let route = interface.routes.iter().find(|r| r.destination.to_string() == "fc00:4::/64");
    let route = route.expect("the route");
    assert_eq!(route.via, Some("fc00::10".parse().unwrap()));
    assert_eq!((route.metric, route.table, interface.routes.len()), (Some(7), 254, 2));
    let printed = to_toml(&loaded.origins);
    assert!(printed.contains("etc/tunnel64d.toml:4"), "{printed}");
    assert!(printed.contains("etc/tun0.toml:9"), "{printed}");
}

#[test]
fn a_file_of_its_own_replaces_all_others() {
    let files = Files::new(&[
        ("vendor/10.toml", "broken"),
        ("etc/tun0.toml", "broken"),
        ("elsewhere/x.toml", VALID),
    ]);
    let mut sources = files.sources();
    sources.config_file = Some(files.path("elsewhere/x.toml").into());
    assert!(load(&sources).is_ok());
    sources.config_file = Some(files.path("elsewhere/y.toml").into());
    assert_eq!(
        files.errors(&sources),
        ["elsewhere/y.toml: can't be read: there is no such file (make it readable, or remove it)"]
    );
}

#[test]
fn connect_is_one_text_or_a_list_without_repetitions() {
    let text = |connect: &str| {
        format!(
            "[link]\nconnect = {connect}\n[security]\nmode = \"plaintext\"\npeer_addresses = [\"::/0\"]\n"
        )
    };
    let connect = settings_of(&text("[\"a\", \"[fc00::1]:5\"]")).link.connect;
    assert_eq!((connect[0].port, connect[1].to_string().as_str()), (4641, "[fc00::1]:5"));
    assert!(errors_of(&text("[\"a\", \"a:4641\"]"))[0].contains("given twice"));
    assert!(errors_of(&text("5"))[0].contains("host:port"));
    assert!(errors_of(&text("[]"))[0].contains("neither listen nor connect"));
}

#[test]
fn instances_are_the_files_and_the_directories_that_have_one() {
    let files = Files::new(&[
        ("etc/tunnel64d.toml", ""),
        ("etc/tunnel64d.d/10.toml", ""),
        ("etc/tun1.toml", ""),
        ("etc/tun0.toml", ""),
        ("etc/tun0.d/10.toml", ""),
        ("etc/tun2.d/10.toml", ""),
        ("etc/notes.d/readme", ""),
        ("etc/.hidden.toml", ""),
        ("etc/tun0.key", ""),
    ]);
    let etc = files.directory.path().join("etc");
    assert_eq!(instances(&etc).unwrap(), ["tun0", "tun1", "tun2"]);
}
