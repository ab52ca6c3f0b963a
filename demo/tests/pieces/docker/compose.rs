//! The Compose file as data. Owns which keys and forms it may have (a part of what Compose takes: the part that is used), and how
//! variables are put in. Does not own whether the parts fit one another: that is `check`'s.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compose {
    #[serde(rename = "x-program")]
    _program: Option<IgnoredAny>,
    #[serde(rename = "x-spells-api")]
    _spells_api: Option<IgnoredAny>,
    pub(super) services: BTreeMap<String, Service>,
    #[serde(default)]
    pub(super) networks: BTreeMap<String, Network>,
    #[serde(default)]
    pub(super) volumes: BTreeMap<String, Nothing>,
}

/// There is no `image`: Compose would first look for one of that name on the Internet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) build: Build,
    pub(super) restart: String,
    pub(super) read_only: bool,
    pub(super) cap_drop: Vec<String>,
    pub(super) security_opt: Vec<String>,
    #[serde(default)]
    pub(super) entrypoint: Vec<String>,
    #[serde(default)]
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) volumes: Vec<String>,
    #[serde(default)]
    pub(super) ports: Vec<String>,
    #[serde(default)]
    pub(super) networks: BTreeMap<String, Attachment>,
    #[serde(default)]
    pub(super) depends_on: BTreeMap<String, Dependency>,
    #[serde(default)]
    pub(super) profiles: Vec<String>,
    #[serde(default, rename = "init")]
    _init: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    pub(super) context: String,
    pub(super) dockerfile: String,
    pub(super) target: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attachment {
    pub(super) ipv4_address: Option<Ipv4Addr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dependency {
    pub(super) condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Condition {
    ServiceStarted,
    ServiceHealthy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub(super) ipam: Ipam,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ipam {
    pub(super) config: Vec<Pool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) subnet: String,
    pub(super) ip_range: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl Compose {
    /// With `variables` for those of the environment.
    pub(super) fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Compose, String> {
        let text = interpolate(text, variables)?;
        // Plain `no` and `1` are text to this parser, but not to each of Compose's: those must be quoted.
        let options = serde_saphyr::options! { no_schema: true };
        serde_saphyr::from_str_with_options(&text, options).map_err(|error| error.to_string())
    }

    /// The service that has this address.
    pub(super) fn service_at(&self, address: Ipv4Addr) -> Option<&str> {
        let at = |service: &Service| service.addresses().any(|(_, its)| its == address);
        self.services.iter().find(|(_, service)| at(service)).map(|(name, _)| name.as_str())
    }
}

impl Service {
    /// Its fixed addresses, and in which network.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, Ipv4Addr)> {
        self.networks.iter().filter_map(|(network, at)| Some((network.as_str(), at.ipv4_address?)))
    }

    /// What its program is given, without what the image's ENTRYPOINT gives it.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.entrypoint.iter().skip(1).chain(&self.command).map(String::as_str)
    }

    /// `(from, to, mode)` of each volume.
    pub(super) fn mounts(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.volumes.iter().map(|volume| {
            let mut parts = volume.splitn(3, ':');
            let mut next = || parts.next().unwrap_or_default();
            (next(), next(), next())
        })
    }
}

/// Puts `${NAME:-default}` in; other forms are refused, since a variable that is not set would be an empty text.
fn interpolate(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let mut parts = text.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inside, after) = part
            .strip_prefix('{')
            .and_then(|part| part.split_once('}'))
            .ok_or("`$` without `{NAME:-default}`")?;
        let (name, default) =
            inside.split_once(":-").ok_or_else(|| format!("`${{{inside}}}` has no default"))?;
        let set = variables.iter().find(|(set, _)| *set == name);
        whole += set.map_or(default, |(_, value)| value);
        whole += after;
    }
    Ok(whole)
}

#[test]
fn variables_take_their_value_or_their_default() {
    let text = "a ${A:-1}, ${B:-x:y}.";
    assert_eq!(interpolate(text, &[]).unwrap(), "a 1, x:y.");
    assert_eq!(interpolate(text, &[("A", "2")]).unwrap(), "a 2, x:y.");
    for wrong in ["${A}", "$A", "${A:-"] {
        assert!(interpolate(wrong, &[]).is_err(), "{wrong}");
    }
}
