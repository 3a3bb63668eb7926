"""Tests of demo_alerts.py: python3 -m unittest discover scripts"""

import unittest

from demo_alerts import Alert, Incident, assign, describe, read_alerts


def frames(count):
    return [{"time": f"t{i}"} for i in range(count)]


def event(kind, name, time, score):
    return {"kind": kind, "id": name, "time": f"t{time}", "top_score": score, "threshold": 0.2}


class Alerts(unittest.TestCase):
    def test_messages_of_one_event_become_one_alert(self):
        events = [event("new", "a", 3, 0.3), event("update", "a", 5, 0.4), event("end", "a", 9, 0.4)]
        events.append(event("new", "b", 15, 0.5))
        self.assertEqual(read_alerts(events, frames(20)), [Alert(3, 9, 0.4, 0.2), Alert(15, 19, 0.5, 0.2)])

    def test_an_alert_belongs_to_the_incident_it_begins_in(self):
        incidents = [Incident(10, 20, "scratch"), Incident(40, 50, "scratch"), Incident(80, 90, "scratch")]
        alerts = [Alert(12, 22, 0.3, 0.2), Alert(18, 19, 0.3, 0.2), Alert(30, 60, 0.3, 0.2)]
        self.assertEqual(assign(incidents, alerts), [alerts[2]])
        said = [describe(i, alerts, 10.0) for i in incidents]
        self.assertEqual(said[0], "alert after 0.2 s, top score 0.300, 2 alerts")
        self.assertEqual(said[1:], ["MISSED: an earlier alert was still open", "MISSED"])


if __name__ == "__main__":
    unittest.main()
