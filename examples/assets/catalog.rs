//! The journal's catalog (`journalctl -x`): an entry for every message.
//!
//! journalctl fills in only fields without digits in their names: not `T64_TUNNEL`.

use std::fmt::Write;

use tunnel64d::service::messages::{ALL, Message};

/// The catalog in systemd's format.
pub fn text() -> String {
    let mut text =
        "# The messages of tunnel64d, explained. https://systemd.io/CATALOG\n".to_owned();
    for message in ALL {
        text.push_str(&entry(message));
    }
    text
}

fn entry(message: &Message) -> String {
    let mut entry = String::new();
    let _ = write!(
        entry,
        "\n-- {id}\n\
         Subject: @_SYSTEMD_UNIT@: {text}\n\
         Defined-By: tunnel64d\n\
         Documentation: man:tunnel64d(8)\n\
         \n\
         {cause}\n\
         \n\
         {remedy}\n",
        id = message.id,
        text = message.text,
        cause = message.cause,
        remedy = message.remedy,
    );
    entry
}
