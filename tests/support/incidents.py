"""Many incidents at once, for plans and for figures."""

from __future__ import annotations

MANY = (
    """
    INSERT INTO flawless.ops_incident
        (id, created_at, updated_at, severity, category, summary, fingerprint, resolved_at, details)
    SELECT lpad(to_hex(n), 32, '0')::uuid, now() - n * interval '1 s', now(), 'CRITICAL', 'DB', 'number ' || n,
        'fingerprint ' || n, CASE WHEN n % 100 > 0 THEN now() END, '{"stack": "shop"}'
    FROM generate_series(1, $1::int) AS n
    """,
    """
    INSERT INTO flawless.ops_incident_event (id, incident_id, created_at, event_type, message)
    SELECT id, id, created_at, 'DETECTED', 'detected' FROM flawless.ops_incident
    """,
    "ANALYZE flawless.ops_incident",
    "ANALYZE flawless.ops_incident_event",
)
"""One in a hundred is open; `$1` is how many. An event each."""
