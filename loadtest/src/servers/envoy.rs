//! Envoy: one worker thread, beside a main thread that only probes.

use std::process::Command;

use serde_json::{Value, json};

use super::{Bench, Place};
use crate::Failure;

/// More than anything here can reach.
const UNLIMITED: u32 = 1_000_000;
/// How much of a request body is kept for another try; by default 1 MiB is copied, which nobody else here does.
const RETRY_BYTES: u32 = 64 << 10;

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

pub(super) fn command(bench: &Bench, place: &Place) -> Result<Command, Failure> {
    let config = bench.file("envoy.json", &config(place, bench.probes()).to_string())?;
    let mut command = bench.command(place.program);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]);
    command.arg(config);
    Ok(command)
}

/// No `x-request-id` and none of Envoy's own fields, as no other subject adds any; `use_remote_address` is what
/// makes it write `X-Forwarded-For` and `-Proto`. Circuit breakers, which begin at 1,024, are raised.
pub(super) fn config(place: &Place, seconds: f64) -> Value {
    let endpoints: Vec<Value> = place
        .targets
        .iter()
        .map(|target| json!({ "endpoint": { "address": address(target) } }))
        .collect();
    let interval = format!("{seconds:.3}s");
    json!({ "static_resources": {
        "listeners": [{
            "name": "in",
            "address": address(&place.address),
            "tcp_backlog_size": 4096,
            "filter_chains": [{ "filters": [{
                "name": "http",
                "typed_config": manager(),
            }] }],
        }],
        "clusters": [{
            "name": "out",
            "type": "STATIC",
            "lb_policy": "ROUND_ROBIN",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": "out",
                "endpoints": [{ "lb_endpoints": endpoints }],
            },
            "health_checks": [{
                "interval": interval,
                "no_traffic_interval": interval,
                "timeout": "1s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "http_health_check": { "path": "/healthz" },
            }],
            "common_lb_config": { "healthy_panic_threshold": { "value": 0 } },
            "circuit_breakers": { "thresholds": [{
                "max_connections": UNLIMITED,
                "max_pending_requests": UNLIMITED,
                "max_requests": UNLIMITED,
                "max_retries": UNLIMITED,
            }] },
        }],
    }})
}

/// The HTTP connection manager and its only filter, the router.
fn manager() -> Value {
    let route = json!({
        "match": { "prefix": "/" },
        "route": {
            "cluster": "out",
            "timeout": "0s",
            "idle_timeout": "60s",
            "retry_policy": {
                "retry_on": "connect-failure,reset-before-request",
                "num_retries": 2,
            },
        },
    });
    json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "use_remote_address": true,
        "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "per_request_buffer_limit_bytes": RETRY_BYTES,
                "routes": [route],
                "request_headers_to_add": [{
                    "header": { "key": "X-Forwarded-Host", "value": "%REQ(:AUTHORITY)%" },
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }],
            }],
        },
        "http_filters": [{
            "name": "router",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router"),
                "suppress_envoy_headers": true,
            },
        }],
    })
}

fn address(of: &std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}
