//! A wrong pillar: the run fails, says what is wrong and where, and the tunnel goes on as it was.

use super::minion::CURRENT;
use super::pair::Pair;
use crate::gateways::PING;
use crate::machine::{Release, World};

#[test]
fn a_wrong_pillar_says_what_and_where_and_leaves_the_tunnel_as_it_was() {
    let world = World::new();
    let pair = Pair::boot(&world, Release::Bookworm, CURRENT);
    pair.raise();
    let near = &pair.near;
    let all = "ls /etc/systemd/system; cat /etc/tunnel64d/*; ls -l --time-style=full-iso /etc/tunnel64d; ip -6 route";
    let (pid, before) = (near.pid(), near.run(all));
    let tunnel = "pillar tunnel64d:tunnels:tun0: ";
    for (change, what) in [
        (
            r#"{"tunnels": {"tun0": {"interface": {"addresses": ["fc00:1234:ffff::1/640"]}}}}"#,
            format!("{tunnel}interface.addresses: \"fc00:1234:ffff::1/640\" is not accepted"),
        ),
        (
            r#"{"tunnels": {"tun0": {"link": {"conect": "172.16.2.163"}}}}"#,
            format!("{tunnel}link.conect: unknown key (did you mean \"connect\"?)"),
        ),
        (
            r#"{"tunnels": {"tun0": {"lnik": {"connect": "172.16.2.163"}}}}"#,
            format!("{tunnel}lnik: unknown section (did you mean \"link\"?)"),
        ),
        (
            r#"{"tunnels": {"tun0": {"security": {"peer_public_keys": []}}}}"#,
            format!("{tunnel}security.mode: mode = \"tls\" needs peer_public_keys"),
        ),
        (
            r#"{"tunnels": {"tun0": {"peers": [{"minion": "far"}]}}}"#,
            format!("{tunnel}peers: the mine has no public key of far's tun0"),
        ),
        (r#"{"tunels": {}}"#, "tunnel64d:tunels: unknown key (there are: ".to_owned()),
        (
            r#"{"routes": {"fc00::1/64": {"dev": "eth1"}}}"#,
            "tunnel64d:routes:fc00::1/64: fc00::1/64 has host bits set".to_owned(),
        ),
        (
            r#"{"routes": {"fc00:5::/64": {"dev": "eth7"}}}"#,
            "ip route replace fc00:5::/64 dev eth7: Cannot find device \"eth7\"".to_owned(),
        ),
        (
            r#"{"package": {"source": "salt://nowhere.deb"}}"#,
            "Source file salt://nowhere.deb not found".to_owned(),
        ),
        (
            r#"{"package": {"from": "path", "path": "/root/nowhere.deb"}}"#,
            "tunnel64d: /root/nowhere.deb: no such file".to_owned(),
        ),
        (
            r#"{"package": {"source_hash": "sha256=0000000000000000000000000000000000000000000000000000000000000000"}}"#,
            "but the pillar's source_hash says 00000000".to_owned(),
        ),
        (
            r#"{"package": {"version": "99.0"}}"#,
            "this is version 0.1.0, but the pillar wants 99.0".to_owned(),
        ),
    ] {
        let run = near.apply(&format!(r#"pillar='{{"tunnel64d": {change}}}'"#));
        let said = run.fails();
        assert!(said.contains(&what), "{change}:\n{said}\n{}", run.text());
        assert_eq!((near.pid(), near.run(all)), (pid.clone(), before.clone()), "{change}");
    }
    near.run(PING);

    // What the pillar does not know of is looked at before the daemon has to live with it.
    near.write("/etc/tunnel64d/tun0.d/wrong.toml", "-m 0640 -g tunnel64d", "link.mtu = 1\n");
    let change = r#"pillar='{"tunnel64d": {"tunnels": {"tun0": {"interface": {"mtu": 1400}}}}}'"#;
    let said = near.apply(change).fails();
    assert!(said.contains("/etc/tunnel64d/tun0.d/wrong.toml:1: link.mtu: unknown key"), "{said}");
    assert_eq!(near.pid(), pid);
    near.run(PING);

    // Once that is mended, the change that has waited in the file reaches the daemon.
    near.run("rm -r /etc/tunnel64d/tun0.d");
    let run = near.apply(change);
    assert_eq!(run.succeeds().changed(), ["tunnel64d-tun0-running"], "{}", run.text());
    near.await_success("ip link show tun0 | grep -q 'mtu 1400'", crate::gateways::SOON);
}
