//! tunnel64d@.service(8): what the unit does, from the unit itself.

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{item, see_also, title};

/// The unit as it is installed.
const UNIT: &str = include_str!("../../../systemd/tunnel64d@.service");

/// What an administrator does with it.
const COMMANDS: [(&str, &str); 8] = [
    ("systemctl enable --now tunnel64d@NAME", "Starts the tunnel NAME, now and at every boot."),
    (
        "systemctl status tunnel64d@NAME",
        "Shows in one line who is connected, or why nobody is, and the last lines of the log.",
    ),
    (
        "systemctl reload tunnel64d@NAME",
        "Puts a changed configuration into force without losing a packet, or refuses it and \
         changes nothing; tunnel64d.toml(5) says for each key whether that can be.",
    ),
    (
        "systemctl restart tunnel64d@NAME",
        "Starts the tunnel anew, after an upgrade or for a key that a reload can't apply.",
    ),
    (
        "systemctl stop tunnel64d@NAME",
        "Says goodbye to the peer and takes the interface away, with its addresses and routes.",
    ),
    (
        "systemctl edit tunnel64d@NAME",
        "Changes settings of the unit for one tunnel; for all of them, edit tunnel64d@.service.",
    ),
    ("journalctl -x -u tunnel64d@NAME", "Shows the log, explained."),
    ("systemctl list-units 'tunnel64d@*'", "Lists the tunnels that run on this host."),
];

/// tunnel64d@.service(8).
pub fn page() -> Roff {
    let mut page = title("tunnel64d@.service", "8", "System Manager's Manual");
    page.control("SH", ["NAME"])
        .text([roman("tunnel64d@.service - one tunnel as a service of systemd")])
        .control("SH", ["SYNOPSIS"])
        .text([bold("tunnel64d@"), italic("NAME"), bold(".service")])
        .control("SH", ["DESCRIPTION"])
        .text([
            roman("Each instance is one tunnel: "),
            bold("tunnel64d@tun0"),
            roman(" runs "),
            bold("tunnel64d run tun0"),
            roman(
                " and reads /etc/tunnel64d/tun0.toml. Tunnels share nothing: one that is stopped, \
                 restarted or broken leaves the others alone. It is ready when the interface is \
                 up, or, with link.ready = \"connected\", when the peer is connected. It never \
                 gives up: the peer, names and addresses may come and go. Only a wrong \
                 configuration ends it for good, with status 78.",
            ),
        ]);
    page.control("SH", ["COMMANDS"]);
    for (command, about) in COMMANDS {
        item(&mut page, [bold(command)], about);
    }
    page.control("SH", ["SETTINGS"]).text([roman(
        "What the unit sets, and why. A drop-in changes it; the defaults are meant to be kept.",
    )]);
    for Setting { assignments, why } in settings() {
        page.control("TP", []);
        for (index, assignment) in assignments.iter().enumerate() {
            if index > 0 {
                page.control("TQ", []);
            }
            page.text([bold(*assignment)]);
        }
        page.text([roman(why)]);
    }
    page.control("SH", ["SEE ALSO"]);
    see_also(
        &mut page,
        &[
            ("tunnel64d", "8"),
            ("tunnel64d.toml", "5"),
            ("systemd.service", "5"),
            ("systemd.exec", "5"),
        ],
    );
    page
}

/// A block of the unit: assignments, and the comment in front of them.
struct Setting {
    assignments: Vec<&'static str>,
    why: String,
}

fn settings() -> Vec<Setting> {
    let (_, body) = UNIT.split_once("[Unit]\n").unwrap_or_default();
    let mut settings: Vec<Setting> = Vec::new();
    let (mut why, mut within) = (String::new(), false);
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if within {
                (why, within) = (String::new(), false);
            }
            why = format!("{why}{}{comment}", if why.is_empty() { "" } else { " " });
        } else if line.is_empty() || line.starts_with('[') {
            (why, within) = (String::new(), false);
        } else if within {
            settings.last_mut().into_iter().for_each(|setting| setting.assignments.push(line));
        } else {
            settings.push(Setting { assignments: vec![line], why: why.clone() });
            within = true;
        }
    }
    settings
}
