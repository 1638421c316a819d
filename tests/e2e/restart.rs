//! `systemctl restart` beside traffic: the interface stays, and so does what flows through it.

use std::time::Duration;

use crate::gateways::{INTERFACE, PING, SOON, tunnelled};
use crate::machine::{Machine, Release, Running, World};
use crate::wait::eventually;

on_both_releases! {
    a_restart_interrupts_nothing,
    packets_wait_while_no_daemon_runs,
    a_socket_unit_holds_the_port_and_starts_the_daemon,
}

fn a_restart_interrupts_nothing(release: Release) {
    let world = World::new();
    let (near, far) = tunnelled(&world, release);
    let _server = far.spawn("iperf3 -s");
    far.await_success("ss -Hltn 'sport = :5201' | grep .", SOON);
    let machines = [&near, &far];
    let before = machines.map(|machine| machine.run(INTERFACE));
    let monitors = machines.map(|machine| machine.spawn("ip monitor link address route dev tun0"));
    let mut flow = near.spawn("iperf3 -c fc00:1234:ffff::10 -t 12 -i 1 -b 100M --forceflush");
    let pings = Pings::start(&near);
    for machine in machines {
        let (pid, seen) = (machine.pid(), pings.answers());
        machine.run("systemctl restart tunnel64d@tun0");
        assert_ne!(machine.pid(), pid);
        eventually("pings are answered again", SOON, || pings.answers() >= seen + 200);
    }
    let (lost, silence) = pings.finish();
    println!("two restarts: {lost} pings lost, {silence:?} without an answer");
    assert!(lost <= 2 * 2, "{lost} pings lost");
    assert!(silence <= Duration::from_secs(1), "{silence:?} without an answer");

    eventually("the flow ends", SOON, || !flow.runs());
    let flow = flow.output();
    assert!(flow.contains("iperf Done."), "{flow}");
    assert_eq!(machines.map(|machine| machine.run(INTERFACE)), before);
    for monitor in monitors {
        assert_eq!(monitor.output(), "", "not even for a moment");
    }
    for machine in machines {
        machine
            .run("journalctl --sync; journalctl -u tunnel64d@tun0 | grep 'interface taken over'");
    }
}

fn packets_wait_while_no_daemon_runs(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let slow = "[Service]\nRestartSec=3s\n";
    near.write("/etc/systemd/system/tunnel64d@.service.d/e2e.conf", "-m 0644", slow);
    near.run("systemctl daemon-reload");
    let before = near.pid();
    near.run(&format!("kill -KILL {before}; while test -d /proc/{before}; do sleep 0.01; done"));
    let said = near.run("ping -c 10 -i 0.1 -W 10 fc00:1234:ffff::10");
    assert!(said.contains("10 received, 0% packet loss"), "{said}");
    // The first of them waited for as long as it took.
    let slowest =
        said.split("time=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok());
    let slowest = slowest.fold(0.0_f64, f64::max);
    assert!(slowest > 1500.0, "{said}");
}

fn a_socket_unit_holds_the_port_and_starts_the_daemon(release: Release) {
    let world = World::new();
    let (near, far) = tunnelled(&world, release);
    near.run(
        "systemctl disable --now tunnel64d@tun0
         sed -i '/^connect = /d' /etc/tunnel64d/tun0.toml
         mkdir -p /etc/systemd/system/tunnel64d@tun0.socket.d",
    );
    far.run("sed -i '/^listen = /d' /etc/tunnel64d/tun0.toml; systemctl restart tunnel64d@tun0");
    let address = "[Socket]\nListenStream=\nListenStream=172.16.2.131:4641\n";
    near.write("/etc/systemd/system/tunnel64d@tun0.socket.d/address.conf", "-m 0644", address);
    near.run("systemctl daemon-reload; systemctl enable --now tunnel64d@tun0.socket");
    // The peer connects by itself.
    near.await_success("systemctl is-active tunnel64d@tun0", SOON);
    near.await_success(PING, SOON);
    let log = near.run("journalctl --sync; journalctl --no-pager -u tunnel64d@tun0");
    assert!(!log.contains("has another address"), "{log}");

    near.write("/etc/tunnel64d/tun0.d/port.toml", "-m 0640 -g tunnel64d", "link.fwmark = 64\n");
    let refused = near.run("tunnel64d reload tun0 2>&1 && exit 1 || true");
    assert!(refused.contains("link.fwmark: the port is held by a socket unit"), "{refused}");

    near.write(
        "/etc/tunnel64d/tun0.d/port.toml",
        "-m 0640 -g tunnel64d",
        "link.listen = \"172.16.2.131:4642\"\n",
    );
    near.run("systemctl restart tunnel64d@tun0");
    near.await_success(PING, SOON);
    let difference = "address=172.16.2.131:4641 configured=172.16.2.131:4642";
    near.run(&format!("journalctl --sync; journalctl -u tunnel64d@tun0 | grep {difference:?}"));
}

/// A ping every ten milliseconds, from the near gateway through the tunnel.
struct Pings(Running);

impl Pings {
    fn start(near: &Machine<'_>) -> Self {
        let pings = Self(near.spawn("timeout -s INT 100 ping -D -n -i 0.01 fc00:1234:ffff::10"));
        eventually("pings are answered", SOON, || pings.answers() > 100);
        pings
    }

    fn answers(&self) -> usize {
        self.0.output().matches("bytes from").count()
    }

    /// How many were lost, and the longest time without an answer.
    fn finish(&self) -> (usize, Duration) {
        let text = self.0.output();
        let lines = text.lines().filter(|line| line.contains("bytes from"));
        let answers: Vec<(f64, usize)> = lines.filter_map(answer).collect();
        let highest = answers.iter().map(|(_, number)| *number).max().unwrap_or_default();
        let silence = answers.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(0.0, f64::max);
        (highest.saturating_sub(answers.len()), Duration::from_secs_f64(silence))
    }
}

/// When it came and its number: `[1763660000.123456] 64 bytes from …: icmp_seq=7 ttl=64 …`.
fn answer(line: &str) -> Option<(f64, usize)> {
    let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
    let number = rest.split("icmp_seq=").nth(1)?.split(' ').next()?;
    Some((time.parse().ok()?, number.parse().ok()?))
}
