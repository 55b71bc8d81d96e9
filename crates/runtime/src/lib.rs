//! What every Chimera process needs: config, telemetry, shutdown, NATS, health.
