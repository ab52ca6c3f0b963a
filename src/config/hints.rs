//! The names of other proxies' keys, each with the key that does it here, or why there is none.
//!
//! Only for errors. A key that evenly knows never gets here.

/// Keys of other programs, the tables they stand in (empty: all), and what to write instead.
type Hint = (&'static [&'static str], &'static [&'static str], &'static str);

const FILE: &[&str] = &[""];
const TARGET: &[&str] = &["[[targets]]"];
const HEALTH: &[&str] = &["[health]"];
const ANY: &[&str] = &[];

#[rustfmt::skip]
const HINTS: &[Hint] = &[
    (&["bind", "address", "addr", "host", "ip", "port", "http_port", "listen_addr", "listen_address", "listen_on", "listener", "listeners", "entrypoint", "entrypoints", "frontend", "frontends"], FILE,
        "did you mean listen = \"127.0.0.1:8080\", an IP address and a port?"),
    (&["backend", "backends", "upstream", "upstreams", "server", "servers", "origin", "origins", "pool", "pools", "service", "services", "cluster", "clusters", "endpoint", "endpoints", "nodes", "members", "reverse_proxy", "proxy_pass", "loadbalancer", "http"], FILE,
        "write each server as a block of its own: [[targets]] with address = \"host:port\""),
    (&["threads", "nbthread", "nbproc", "worker_processes", "worker_threads", "num_workers", "processes", "cpus", "cores", "concurrency", "maxprocs"], FILE,
        "did you mean \"workers\"?"),
    (&["access_log", "accesslog", "access_logs", "log_file", "logfile"], FILE,
        "write access = \"/var/log/evenly/access.log\" in [log]"),
    (&["logging", "logs", "logger"], FILE,
        "did you mean [log], with the keys access and format?"),
    (&["uid", "gid", "group", "run_as", "runas", "setuid", "setgid", "username"], FILE,
        "write user = \"evenly\", or user = \"evenly:group\""),
    (&["error_log", "errorlog"], ANY,
        "the program's own log goes to standard error: see --log-level and --log-format"),
    (&["log_level", "loglevel", "level", "debug", "verbose", "verbosity"], ANY,
        "write --log-level on the command line, or EVENLY_LOG in the environment"),
    (&["log_format", "logformat"], FILE,
        "write format in [log] for the access log, --log-format for the program's own"),
    (&["metrics", "prometheus", "stats", "status", "monitoring", "dashboard", "api", "admin_listen", "admin_address", "management"], FILE,
        "write listen = \"127.0.0.1:9901\" in [admin]"),
    (&["health_check", "healthcheck", "health_checks", "healthchecks", "checks", "check", "probe", "probes", "active_health_checks"], FILE,
        "did you mean [health]? The path is health_check_endpoint in [[targets]]"),
    (&["resolver", "resolvers", "nameserver", "nameservers", "dns_servers"], ANY,
        "did you mean servers = [\"127.0.0.1:53\"] in [dns]?"),
    (&["connect_timeout", "timeout_connect", "dial_timeout", "proxy_connect_timeout"], ANY,
        "did you mean \"connect\" in [timeouts]?"),
    (&["read_timeout", "proxy_read_timeout", "response_timeout", "response_header_timeout", "server_timeout", "timeout_server", "upstream_timeout", "backend_timeout"], ANY,
        "did you mean \"response_header\" or \"response_body\" in [timeouts]?"),
    (&["request_timeout", "timeout_http_request", "read_header_timeout", "client_header_timeout"], ANY,
        "did you mean \"client_header\" in [timeouts]?"),
    (&["client_timeout", "timeout_client", "send_timeout", "write_timeout", "client_body_timeout"], ANY,
        "did you mean \"client_body\" in [timeouts]?"),
    (&["keepalive_timeout", "keep_alive_timeout", "idle_timeout", "keepalive", "keep_alive", "timeout_http_keep_alive"], ANY,
        "did you mean \"client_idle\" or \"upstream_idle\" in [timeouts]?"),
    (&["shutdown_timeout", "graceful_timeout", "grace_period", "hard_stop_after", "shutdown_grace"], ANY,
        "did you mean \"drain\" in [timeouts]?"),
    (&["maxconn", "max_conn", "max_conns", "max_connections", "connection_limit", "worker_connections"], &["", "[limits]"],
        "did you mean \"connections\" in [limits]?"),
    (&["retries", "max_retries", "retry_attempts", "attempts", "tries", "max_attempts"], ANY,
        "did you mean \"connect_attempts\" in [retry]?"),
    (&["real_ip", "set_real_ip_from", "real_ip_from", "forwarded_allow_ips", "trusted_ips", "trusted"], FILE,
        "did you mean \"trusted_proxies\"?"),
    (&["outlier_detection", "circuit_breaker", "circuitbreaker", "passive_health", "passive_health_checks", "max_fails", "fail_timeout", "fail_duration", "outlier"], ANY,
        "did you mean [ejection]?"),
    (&["client_max_body_size", "max_body_size", "body_limit", "max_request_body_size"], ANY,
        "evenly does not limit the size of bodies; remove this key"),
    (&["max_memory", "memory_limit", "mem_limit", "maxmem", "max_heap_size_bytes", "buffers", "buffers_limit"], &["", "[limits]"],
        "did you mean \"memory\" in [limits]?"),
    (&["keepalive_connections", "max_idle_conns_per_host", "pool_size"], ANY,
        "did you mean \"idle_per_target\" in [limits]?"),

    (&["url", "uri", "addr", "server", "upstream", "backend", "target", "dial", "hostport", "ip", "to", "origin", "node"], TARGET,
        "did you mean address = \"host:port\"?"),
    (&["port"], TARGET,
        "the port is part of the address: address = \"host:port\""),
    (&["name", "id", "label", "tag", "tags"], TARGET,
        "targets have no names but their addresses; remove this key"),
    (&["health", "health_check", "healthcheck", "health_path", "health_check_path", "health_url", "health_endpoint", "health_uri", "health_check_uri", "health_check_url", "check", "probe", "path", "endpoint"], TARGET,
        "did you mean health_check_endpoint = \"/healthz\"?"),
    (&["path", "endpoint", "uri", "url", "health_check_endpoint", "http_path"], HEALTH,
        "\"health_check_endpoint\" belongs in [[targets]], in the block of each server that has one"),
    (&["method"], HEALTH,
        "probes are GET requests; remove this key"),
    (&["inter", "period", "check_interval", "health_interval", "every"], &["[[targets]]", "[health]"],
        "did you mean \"interval\"?"),
    (&["healthy_threshold", "success_threshold", "passes"], &["[[targets]]", "[health]"],
        "did you mean \"rise\"?"),
    (&["unhealthy_threshold", "failure_threshold", "fails"], &["[[targets]]", "[health]"],
        "did you mean \"fall\"?"),
    (&["status", "expected_status", "expect_status", "expected_statuses", "health_status", "match"], &["[[targets]]", "[health]"],
        "did you mean \"expect\"?"),
    (&["address", "addr", "bind", "port"], &["[admin]"],
        "did you mean listen = \"127.0.0.1:9901\"?"),
    (&["token", "tokens", "auth_token", "bearer_token", "api_key", "secret", "admin_token"], &["[admin]"],
        "a file has the token of commands: write token_file = \"/etc/evenly/token\""),
    (&["user", "password", "auth", "basic_auth"], &["[admin]"],
        "what the admin listener shows needs no password, so keep it on loopback; for commands there is token_file"),
    (&["file", "path", "output", "destination", "access_log", "target"], &["[log]"],
        "did you mean \"access\"?"),

    (&["tls", "ssl", "https", "cert", "certs", "certificate", "certificates", "cert_file", "key_file", "tls_cert", "tls_key", "ssl_certificate", "ssl_certificate_key", "acme", "letsencrypt", "auto_https", "redirect_https", "hsts"], ANY,
        "evenly speaks plain HTTP; put a TLS terminator in front of it, and leave this key out"),
    (&["http2", "http3", "h2", "h2c", "h3", "quic", "alpn", "grpc"], ANY,
        "evenly speaks HTTP/1.1 alone; leave this key out"),
    (&["weight", "weights"], ANY,
        "weights come from SRV records alone (address = \"_http._tcp.example.org\"); leave this key out"),
    (&["backup", "standby", "priority"], ANY,
        "standbys come from the priorities of SRV records alone (address = \"_http._tcp.example.org\"); leave this key out"),
    (&["sticky", "stickiness", "sticky_sessions", "session_affinity", "affinity", "cookie", "ip_hash", "hash", "persistence"], ANY,
        "evenly has no sticky sessions; leave this key out"),
    (&["balance", "balancing", "algorithm", "lb", "lb_policy", "lb_method", "policy", "strategy", "load_balancing", "load_balancer", "least_conn", "round_robin"], ANY,
        "evenly is always round robin; leave this key out"),
    (&["rate_limit", "ratelimit", "rate_limits", "limit_req", "limit_conn", "throttle"], ANY,
        "evenly has no rate limits; leave this key out"),
    (&["cache", "proxy_cache", "gzip", "compress", "compression", "brotli", "encode"], ANY,
        "evenly passes bodies on as they are; leave this key out"),
    (&["path", "paths", "route", "routes", "router", "routers", "rule", "rules", "location", "locations", "vhosts", "virtual_hosts", "server_name", "domain", "domains", "middlewares", "rewrite", "redirect"], FILE,
        "every request goes to the same targets: evenly has no routes; leave this key out"),
    (&["add_header", "set_header", "request_headers", "response_headers", "proxy_set_header", "header_up", "header_down", "cors"], ANY,
        "evenly adds X-Forwarded-* and Via (see the key \"via\") and no other field; leave this key out"),
    (&["proxy_protocol", "accept_proxy", "send_proxy"], ANY,
        "evenly does not speak the PROXY protocol; leave this key out"),
    (&["include", "includes", "import"], ANY,
        "evenly reads one file; write everything in it"),
    (&["chroot"], FILE,
        "evenly does not change its root: see [security], or let systemd confine it"),
    (&["daemon", "daemonize", "background", "pid", "pidfile", "pid_file"], FILE,
        "evenly stays in the foreground and writes no pid file: let systemd or a container run it; leave this key out"),
];

/// What to write instead of `key` in the table with that header.
pub(super) fn of(key: &str, header: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let fits = |(keys, headers, _): &&Hint| {
        keys.contains(&key.as_str()) && (headers.is_empty() || headers.contains(&header))
    };
    HINTS.iter().find(fits).map(|(_, _, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::super::keys::TABLES;
    use super::*;

    #[test]
    fn what_others_call_it_is_answered_with_what_it_is_here() {
        let cases = [
            ("bind", "", "listen"),
            ("Worker-Processes", "", "\"workers\""),
            ("upstreams", "", "[[targets]]"),
            ("metrics", "", "[admin]"),
            ("access_log", "", "[log]"),
            ("weight", "[[targets]]", "SRV records"),
            ("tls", "", "TLS terminator"),
            ("url", "[[targets]]", "address"),
            ("health", "[[targets]]", "health_check_endpoint"),
            ("path", "[[targets]]", "health_check_endpoint"),
            ("path", "", "no routes"),
            ("path", "[health]", "belongs in [[targets]]"),
        ];
        for (key, header, hint) in cases {
            assert!(of(key, header).is_some_and(|found| found.contains(hint)), "{key}");
        }
        assert_eq!(of("zzz", ""), None);
    }

    #[test]
    fn no_hint_is_for_a_key_that_evenly_knows() {
        for (keys, headers, _) in HINTS {
            for key in *keys {
                for table in TABLES {
                    let here = headers.is_empty() || headers.contains(&table.header);
                    assert!(!here || !table.names().contains(key), "{key} in {:?}", table.header);
                }
            }
        }
    }
}
