//! The manual pages: tunnel64d(8) from the definition of the command line, tunnel64d.toml(5) from
//! the table of keys.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use tunnel64d::config::schema::{KEYS, Key};

/// Exit statuses (`cli::Exit`).
const STATUSES: [(&str, &str); 6] = [
    ("0", "Done."),
    ("1", "Tried and failed; the message says why."),
    ("2", "The command line was not understood."),
    ("69", "The daemon is not running."),
    ("77", "Permission is missing."),
    ("78", "The configuration is wrong; trying again will not help."),
];

/// Where things are.
const FILES: [(&str, &str); 5] = [
    ("/etc/tunnel64d/NAME.toml", "Configuration of the tunnel NAME, see tunnel64d.toml(5)."),
    ("/etc/tunnel64d/tunnel64d.toml", "Configuration that all tunnels share."),
    ("/usr/share/doc/tunnel64d/examples/tun0.toml", "An example with every key."),
    ("/run/tunnel64d/", "Control sockets."),
    ("/usr/lib/systemd/system/tunnel64d@.service", "The unit of every tunnel."),
];

/// The layers of configuration, lowest first.
const LAYERS: [(&str, &str); 7] = [
    ("/usr/lib/tunnel64d/*.toml", "The vendor's files."),
    ("/etc/tunnel64d/tunnel64d.toml", "What all tunnels share."),
    ("/etc/tunnel64d/tunnel64d.d/*.toml", "Drop-ins of the same."),
    ("/etc/tunnel64d/NAME.toml", "One tunnel."),
    ("/etc/tunnel64d/NAME.d/*.toml", "Drop-ins of the same."),
    ("TUNNEL64D_SECTION__KEY", "The environment; two underscores between section and key."),
    ("--set SECTION.KEY=VALUE", "The command line."),
];

/// tunnel64d(8).
pub fn commands(command: Command) -> io::Result<Vec<u8>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section("8").manual("System Manager's Manual");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    description().to_writer(&mut page)?;

    Roff::new().control("SH", ["COMMANDS"]).to_writer(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        self::subcommand(subcommand).to_writer(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    list(&mut rest, "EXIT STATUS", &STATUSES);
    list(&mut rest, "FILES", &FILES);
    see_also(&mut rest, &[("tunnel64d.toml", "5"), ("systemctl", "1"), ("journalctl", "1")]);
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// tunnel64d.toml(5).
pub fn configuration() -> io::Result<Vec<u8>> {
    let mut page = Roff::new();
    let version = concat!("tunnel64d ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["tunnel64d.toml", "5", "", version, "File Formats Manual"])
        .control("SH", ["NAME"])
        .text([roman("tunnel64d.toml - configuration of tunnel64d")])
        .control("SH", ["DESCRIPTION"])
        .text([roman(
            "Files in TOML. Later ones of this list override earlier ones key by key; lists are \
             replaced, not joined. A file that is there and cannot be read is an error, and so is \
             a key that is not known.",
        )]);
    for (what, about) in LAYERS {
        item(&mut page, [bold(what)], about);
    }
    page.control("PP", []).text([
        bold("tunnel64d check NAME --print"),
        roman(" shows every effective value and where it came from."),
    ]);
    page.control("PP", []).text([
        bold("tunnel64d reload NAME"),
        roman(
            " puts a changed configuration into force without losing a packet of the session, or \
             refuses it and leaves everything as it was: when it has an error, or changes a key \
             that needs a restart. What becomes of a key is said below with each of them.",
        ),
    ]);
    let mut section = "";
    for key in KEYS {
        let (name, _) = key.path.split_once('.').unwrap_or((key.path, ""));
        if name != section {
            section = name;
            page.control("SH", [format!("[{section}]").as_str()]);
        }
        self::key(&mut page, key);
    }
    see_also(&mut page, &[("tunnel64d", "8")]);
    let mut bytes = Vec::new();
    page.to_writer(&mut bytes)?;
    Ok(bytes)
}

fn description() -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["DESCRIPTION"])
        .text([roman(
            "Each tunnel is a process of its own with one TUN interface and one peer. A tunnel \
             named tun0 is configured in /etc/tunnel64d/tun0.toml and runs with",
        )])
        .control("RS", ["4"])
        .text([bold("systemctl enable --now tunnel64d@tun0")])
        .control("RE", [])
        .control("PP", [])
        .text([
            roman("What it does is in the journal; "),
            bold("journalctl -x -u tunnel64d@tun0"),
            roman(" adds to every line why it happens and what can be done."),
        ]);
    page
}

fn subcommand(command: &Command) -> Roff {
    let mut page = Roff::new();
    let mut usage = vec![bold(command.get_name())];
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
        if let Some(long) = argument.get_long() {
            if long != "help" && long != "version" {
                usage.extend([roman(" ["), bold(format!("--{long}")), roman("]")]);
            }
            continue;
        }
        let name = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
        let optional = if argument.is_required_set() { ("", "") } else { ("[", "]...") };
        usage.extend([roman(format!(" {}", optional.0)), italic(name), roman(optional.1)]);
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    item(&mut page, usage, &format!("{about}."));
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
        let Some(help) = argument.get_help() else { continue };
        let name = match argument.get_long() {
            Some("help" | "version") => continue,
            Some(long) => format!("--{long}"),
            None => argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default(),
        };
        page.control("RS", []);
        item(&mut page, [italic(name)], &format!("{help}."));
        page.control("RE", []);
    }
    page
}

fn key(page: &mut Roff, key: &Key) {
    item(page, [bold(key.path.replace('*', "DESTINATION"))], key.effect);
    let default = key.default.unwrap_or("unset");
    page.control("br", []).text([
        roman(format!("Value: {}. Default: ", key.range)),
        bold(default),
        roman(format!(". Reload: {}.", key.reload)),
    ]);
}

fn list(page: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    page.control("SH", [title]);
    for (what, about) in entries {
        item(page, [bold(*what)], about);
    }
}

fn item(page: &mut Roff, term: impl Into<Vec<Inline>>, text: &str) {
    page.control("TP", []).text(term).text([roman(text)]);
}

fn see_also(page: &mut Roff, pages: &[(&str, &str)]) {
    page.control("SH", ["SEE ALSO"]);
    for (name, section) in pages {
        page.control("BR", [*name, format!("({section})").as_str()]);
    }
}
