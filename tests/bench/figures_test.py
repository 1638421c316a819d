import math
import unittest

import figures

PING = """PING fc00:1234:4::36(fc00:1234:4::36) 56 data bytes
64 bytes from fc00:1234:4::36: icmp_seq=1 ttl=62 time=0.250 ms
64 bytes from fc00:1234:4::36: icmp_seq=2 ttl=62 time=12.5 ms
64 bytes from fc00:1234:4::36: icmp_seq=2 ttl=62 time=13.5 ms (DUP!)
64 bytes from fc00:1234:4::36: icmp_seq=4 ttl=62 time=101 ms

--- fc00:1234:4::36 ping statistics ---
4 packets transmitted, 3 received, +1 duplicates, 25% packet loss, time 30ms
rtt min/avg/max/mdev = 0.250/37.916/101.000/44.871 ms
"""

STAT = "77 (a (strange) name) S 12 77 0 0 -1 4194560 0 0 0 0 150 50 9 9 20 0 3 0 100 0 0"


class Percentiles(unittest.TestCase):
    def test_they_are_values_that_were_seen(self):
        values = [5, 1, 4, 2, 3]
        seen = [figures.percentile(values, percent) for percent in (0, 20, 21, 50, 95, 100)]
        self.assertEqual(seen, [1, 1, 2, 3, 5, 5])

    def test_one_value_is_all_of_them(self):
        self.assertEqual(figures.percentile([7.5], 99), 7.5)

    def test_the_95th_of_a_hundred_leaves_five_above(self):
        self.assertEqual(figures.percentile(range(1, 101), 95), 95)


class Medians(unittest.TestCase):
    def test_runs_that_failed_do_not_count(self):
        self.assertEqual(figures.median([None, 3, 1, 2]), 2)
        self.assertIsNone(figures.median([None, None]))

    def test_a_run_without_answers_is_no_lucky_one(self):
        self.assertIsNone(figures.median([math.inf, math.inf, 35]))
        self.assertEqual(figures.median([math.inf, 30, 35]), 35)

    def test_a_ratio_needs_both(self):
        self.assertEqual(figures.ratio(6, 3), 2)
        self.assertIsNone(figures.ratio(None, 3))
        self.assertIsNone(figures.ratio(3, None))
        self.assertIsNone(figures.ratio(3, 0))


class Pings(unittest.TestCase):
    def test_lost_and_doubled_answers_are_told_apart(self):
        times, lost = figures.round_trips(PING)
        self.assertEqual(times, [0.25, 12.5, 101])
        self.assertEqual(lost, 25)

    def test_no_answer_at_all_is_a_result(self):
        silence = "4 packets transmitted, 0 received, 100% packet loss, time 30ms"
        expected = {"p50": math.inf, "p95": math.inf, "p99": math.inf, "lost": 100}
        self.assertEqual(figures.latency(silence), expected)

    def test_latency_has_three_percentiles(self):
        lost_one = {"p50": 12.5, "p95": math.inf, "p99": math.inf, "lost": 25}
        self.assertEqual(figures.latency(PING), lost_one)
        answered = PING.replace("4 packets transmitted", "3 packets transmitted")
        self.assertEqual(figures.latency(answered), {"p50": 12.5, "p95": 101, "p99": 101, "lost": 0})

    def test_a_ping_that_said_nothing_is_a_failure(self):
        with self.assertRaisesRegex(ValueError, "ping said nothing"):
            figures.latency("")


class Counters(unittest.TestCase):
    def test_a_datagram_counts_whether_it_was_read_or_not(self):
        snmp6 = "Udp6InDatagrams 100\nUdp6InErrors 30\nUdp6InCsumErrors 10\nUdp6NoPorts 5\n"
        self.assertEqual(figures.datagrams(snmp6), 120)

    def test_idle_and_waiting_are_not_busy(self):
        before = "cpu  100 0 100 1000 50 0 0 10 7 7\ncpu0 ...\n"
        after = "cpu  110 0 110 1060 60 5 0 15 9 9\ncpu0 ...\n"
        self.assertAlmostEqual(figures.busy_share(before, after), 0.3)
        self.assertAlmostEqual(figures.stolen_share(before, after), 0.05)
        self.assertEqual(figures.busy_share(before, before), 0)
        self.assertEqual(figures.stolen_share(before, before), 0)

    def test_a_process_may_be_called_anything(self):
        self.assertEqual(figures.processor_ticks(STAT), 200)
        self.assertEqual(figures.parent(STAT), 12)

    def test_resident_memory_is_in_mib(self):
        self.assertEqual(figures.resident_mib("VmPeak:\t 9999 kB\nVmRSS:\t    4096 kB\n"), 4)

    def test_a_flow_that_failed_says_why(self):
        with self.assertRaisesRegex(ValueError, "refused"):
            figures.received({"error": "connection refused"})


if __name__ == "__main__":
    unittest.main()
