//! Whether all files of the containers' set fit one another: the Compose file, the Dockerfile, what Docker is sent, the zone
//! and the configuration of `evenly`. Owns the rules; each gives sentences about what is wrong. Starts nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use hickory_proto::rr::{Name, RData};
use hickory_proto::serialize::txt::Parser;
use ipnet::Ipv4Net;

use super::compose::{Compose, Condition, Service};
use super::context::Context;
use super::dockerfile::{Dockerfile, Image};

/// What the story's client asks for.
const DOMAIN: &str = "spells.test";

/// Everything that is wrong with the set of the project in `root`; `programs` are those that its workspace builds.
pub(super) fn problems(root: &Path, programs: &BTreeSet<String>) -> Vec<String> {
    match Set::read(root) {
        Ok(set) => set.problems(programs),
        Err(why) => vec![why],
    }
}

struct Set {
    /// Where the Compose file is: its paths begin there.
    folder: PathBuf,
    compose: Compose,
    /// The image of each service that has one.
    images: BTreeMap<String, Image>,
    zone: BTreeMap<String, Vec<Ipv4Addr>>,
    evenly: toml::Table,
}

impl Set {
    fn read(root: &Path) -> Result<Set, String> {
        let folder = root.join("demo");
        let compose = Compose::parse(&read(&folder.join("docker-compose.yml"))?, &[])?;
        let zone = zone(&read(&folder.join("docker/root.zone"))?)?;
        let evenly = read(&folder.join("docker/evenly.toml"))?;
        let evenly = evenly.parse().map_err(|error| format!("evenly.toml: {error}"))?;
        let mut set = Set { folder, compose, images: BTreeMap::new(), zone, evenly };
        for (name, service) in &set.compose.services {
            let file = set.folder.join(&service.build.context).join(&service.build.dockerfile);
            if let Some(image) = Dockerfile::parse(&read(&file)?)?.image(&service.build.target) {
                set.images.insert(name.clone(), image);
            }
        }
        Ok(set)
    }

    fn problems(&self, programs: &BTreeSet<String>) -> Vec<String> {
        let mut found = self.of_builds(programs);
        for (name, service) in &self.compose.services {
            let wrong = [
                self.of_image(name, service),
                of_rights(service),
                self.of_volumes(service),
                self.of_paths(service),
                self.of_ports(name, service),
                self.of_dependencies(service),
                self.of_addresses(name, service),
                self.of_servers(service.arguments().filter_map(server)),
            ];
            found.extend(wrong.into_iter().flatten().map(|wrong| format!("{name}: {wrong}")));
        }
        found.extend(self.of_order());
        found.extend(self.of_zone());
        found.extend(self.of_evenly());
        found
    }

    fn of_builds(&self, programs: &BTreeSet<String>) -> Vec<String> {
        let builds = self.compose.services.values().map(|service| &service.build);
        let files: BTreeSet<_> = builds.map(|build| (&build.context, &build.dockerfile)).collect();
        let mut found = Vec::new();
        for (context, file) in files {
            let folder = self.folder.join(context);
            let text = read(&folder.join(file)).and_then(|text| Dockerfile::parse(&text));
            match text.and_then(|file| Ok((file, Context::open(&folder)?))) {
                Ok((file, context)) => found.extend(file.problems(&context, programs)),
                Err(why) => found.push(why),
            }
        }
        found
    }

    fn of_image(&self, name: &str, service: &Service) -> Vec<String> {
        let Some(image) = self.images.get(name) else {
            return vec![format!("no stage `{}` in the Dockerfile", service.build.target)];
        };
        let mut found = image.problems();
        if let Some(program) = service.entrypoint.first()
            && !image.programs.contains(program)
        {
            found.push(format!("its entrypoint `{program}` is not in its image"));
        }
        if let Some(port) = self.listens(name)
            && !image.ports.contains(&port)
        {
            found.push(format!("it listens on {port}, which its image does not EXPOSE"));
        }
        found
    }

    /// The port that a service listens on, by its command or by the configuration.
    fn listens(&self, name: &str) -> Option<u16> {
        let mut arguments = self.compose.services.get(name)?.arguments();
        let address = match arguments.find(|argument| *argument == "--listen") {
            Some(_) => arguments.next()?,
            None if name == "evenly" => self.evenly.get("listen")?.as_str()?,
            None => return None,
        };
        // Only the unspecified address is the container's whatever that is.
        address.strip_prefix("0.0.0.0:")?.parse().ok()
    }

    fn of_volumes(&self, service: &Service) -> Vec<String> {
        let mut found = Vec::new();
        for (from, to, mode) in service.mounts() {
            let bind = from.starts_with('.') || from.starts_with('/');
            if !to.starts_with('/') {
                found.push(format!("`{from}` is not mounted at an absolute path"));
            }
            if bind && !self.folder.join(from).exists() {
                found.push(format!(
                    "`{from}` is not there, and Docker would make it a folder of root's"
                ));
            }
            if bind && mode != "ro" {
                found.push(format!("`{from}` is the host's, and not mounted read-only (`:ro`)"));
            }
            if !bind && !self.compose.volumes.contains_key(from) {
                found.push(format!("the volume `{from}` is not declared"));
            }
        }
        found
    }

    /// Files that the arguments name are there, by a mount.
    fn of_paths(&self, service: &Service) -> Vec<String> {
        let missing = service.arguments().filter_map(path).filter(|path| {
            !service.mounts().any(|(from, to, _)| match path.strip_prefix(to) {
                Some(rest) if from.starts_with('.') => {
                    self.folder.join(from).join(rest.trim_start_matches('/')).is_file()
                }
                rest => rest.is_some(),
            })
        });
        missing.map(|path| format!("`{path}` is in no volume")).collect()
    }

    fn of_ports(&self, name: &str, service: &Service) -> Vec<String> {
        let mut found = Vec::new();
        for port in &service.ports {
            let inside = port.rsplit(':').next().and_then(|port| port.parse().ok());
            if !port.starts_with("127.0.0.1:") {
                found.push(format!(
                    "`{port}` is published beyond this machine; write 127.0.0.1:{port}"
                ));
            }
            if inside.is_none() || inside != self.listens(name) {
                found.push(format!("`{port}` is published, and nothing listens there"));
            }
        }
        found
    }

    fn of_dependencies(&self, service: &Service) -> Vec<String> {
        let mut found = Vec::new();
        for (name, dependency) in &service.depends_on {
            let wanted = self.compose.services.get(name);
            let healthy = dependency.condition == Condition::ServiceHealthy;
            let checked = self.images.get(name).is_some_and(|image| !image.healthcheck.is_empty());
            match wanted {
                None => found.push(format!("it depends on `{name}`, which is no service")),
                Some(_) if healthy && !checked => {
                    found.push(format!(
                        "it waits for the health of `{name}`, which has no HEALTHCHECK"
                    ));
                }
                Some(wanted) if !wanted.profiles.is_empty() => {
                    found.push(format!("it depends on `{name}`, which is in a profile"));
                }
                Some(_) => {}
            }
        }
        found
    }

    /// An order in which all can be started.
    fn of_order(&self) -> Vec<String> {
        let services = &self.compose.services;
        let mut started: BTreeSet<&str> = BTreeSet::new();
        loop {
            let ready = |service: &Service| {
                let known = |name: &&String| services.contains_key(*name);
                service.depends_on.keys().filter(known).all(|name| started.contains(name.as_str()))
            };
            let next = services
                .iter()
                .find(|(name, service)| !started.contains(name.as_str()) && ready(service));
            match next {
                Some((name, _)) => _ = started.insert(name),
                None if started.len() == services.len() => return Vec::new(),
                None => return vec!["services that depend on one another in a circle".to_owned()],
            }
        }
    }

    fn of_addresses(&self, name: &str, service: &Service) -> Vec<String> {
        let mut found = Vec::new();
        if service.networks.is_empty() {
            found.push("it is in no network of the demo".to_owned());
        }
        for network in service.networks.keys() {
            if !self.compose.networks.contains_key(network) {
                found.push(format!("the network `{network}` is not declared"));
            }
        }
        for (network, address) in service.addresses() {
            if self.compose.service_at(address) != Some(name) {
                found.push(format!("{address} is another's as well"));
            }
            if let Some(why) = self.unfit(network, address) {
                found.push(format!("{address} {why}"));
            }
        }
        found
    }

    fn unfit(&self, network: &str, address: Ipv4Addr) -> Option<&'static str> {
        let pool = self.compose.networks.get(network)?.ipam.config.first()?;
        let (Ok(subnet), Ok(dynamic)) = (pool.subnet.parse(), pool.ip_range.parse()) else {
            return Some("is in a network whose subnet or ip_range is none");
        };
        let (subnet, dynamic): (Ipv4Net, Ipv4Net) = (subnet, dynamic);
        let gateway = subnet.hosts().next();
        if !subnet.contains(&dynamic) {
            Some("is in a network whose ip_range is not in its subnet")
        } else if !subnet.contains(&address) {
            Some("is not in its network's subnet")
        } else if [Some(subnet.network()), Some(subnet.broadcast()), gateway]
            .contains(&Some(address))
        {
            Some("is the network's own")
        } else if dynamic.contains(&address) {
            Some("is in ip_range, from where Docker gives addresses away")
        } else {
            None
        }
    }

    /// Each of `servers` is a service that listens there.
    fn of_servers(&self, servers: impl Iterator<Item = SocketAddrV4>) -> Vec<String> {
        let strangers = servers.filter(|server| {
            let name = self.compose.service_at(*server.ip());
            name.and_then(|name| self.listens(name)) != Some(server.port())
        });
        strangers.map(|server| format!("no service listens on {server}")).collect()
    }

    fn of_zone(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, addresses) in &self.zone {
            for address in addresses {
                match self.compose.service_at(*address) {
                    None => {
                        found.push(format!("the zone gives {name} {address}, which is nobody's"));
                    }
                    Some(service)
                        if name != service && !(name == DOMAIN && service == "evenly") =>
                    {
                        found.push(format!("the zone calls {service} ({address}) `{name}`"));
                    }
                    Some(_) => {}
                }
            }
        }
        if !self.zone.contains_key(DOMAIN) {
            found.push(format!("the zone has no {DOMAIN}"));
        }
        found
    }

    fn of_evenly(&self) -> Vec<String> {
        let mut found = Vec::new();
        for target in texts(&self.evenly, "targets", Some("address")) {
            let place = target.split_once(':').unwrap_or_default();
            if !self.zone.contains_key(place.0) {
                found.push(format!("evenly's target {target} is not in the zone"));
            } else if self.listens(place.0).map(|port| port.to_string()).as_deref() != Some(place.1)
            {
                found.push(format!("evenly's target {target} does not listen there"));
            }
        }
        let dns = self.evenly.get("dns").and_then(|dns| dns.as_table());
        let servers = dns.map(|dns| texts(dns, "servers", None)).unwrap_or_default();
        if servers.is_empty() {
            found.push("evenly is not told whom to ask ([dns] servers)".to_owned());
        }
        found.extend(self.of_servers(servers.into_iter().filter_map(server)));
        found
    }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// The addresses of each name.
fn zone(text: &str) -> Result<BTreeMap<String, Vec<Ipv4Addr>>, String> {
    let parsed = Parser::new(text, None, Some(Name::root())).parse();
    let (_, records) = parsed.map_err(|error| format!("root.zone: {error}"))?;
    let mut zone: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
    for record in records.values().flat_map(|set| set.records_without_rrsigs()) {
        if let RData::A(address) = &record.data {
            let name = record.name.to_string().trim_end_matches('.').to_owned();
            zone.entry(name).or_default().push(address.0);
        }
    }
    Ok(zone)
}

/// What a container of the demo has no use for.
fn of_rights(service: &Service) -> Vec<String> {
    let has = |list: &[String], what: &str| list.iter().any(|item| item == what);
    let rules = [
        (service.restart == "no", "restart is not \"no\""),
        (service.read_only, "its image can be written to (read_only)"),
        (has(&service.cap_drop, "ALL"), "it has capabilities (cap_drop)"),
        (
            has(&service.security_opt, "no-new-privileges:true"),
            "it can gain privileges (security_opt)",
        ),
    ];
    rules.iter().filter(|(kept, _)| !kept).map(|(_, wrong)| (*wrong).to_owned()).collect()
}

/// The server that an argument such as `10.0.0.1:53` or `.=10.0.0.1:53` names, if it is not where to listen.
fn server(argument: &str) -> Option<SocketAddrV4> {
    let address = argument.rsplit('=').next()?.parse::<SocketAddrV4>().ok()?;
    (!address.ip().is_unspecified()).then_some(address)
}

/// The file that an argument such as `/file`, `.=/file` or `sqlite:/file` names.
fn path(argument: &str) -> Option<&str> {
    let path = argument.get(argument.find('/')?..)?;
    (!path.starts_with("//")).then_some(path)
}

/// The texts of the array `key`, or those that the tables in it have at `inner`.
fn texts<'a>(table: &'a toml::Table, key: &str, inner: Option<&str>) -> Vec<&'a str> {
    let items = table.get(key).and_then(toml::Value::as_array).into_iter().flatten();
    let text = |item: &'a toml::Value| match inner {
        Some(inner) => item.get(inner)?.as_str(),
        None => item.as_str(),
    };
    items.filter_map(text).collect()
}
