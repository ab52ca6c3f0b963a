//! The spells API: a list of spells over HTTP, each with an id, a name and a description.
//!
//! Owns the routes, the statuses and what is accepted. Storage is `store`'s. Every error is JSON, `{"error":"why"}`, and
//! every response names the instance that answered in `X-Served-By`.

mod api;
mod store;

pub use api::{MAX_BODY, serve};
pub use store::{Added, Database, MAX_SPELLS, Store, StoreError};

use serde::{Deserialize, Serialize};

/// Most characters of a name.
pub const MAX_NAME: usize = 100;
/// Most characters of a description.
pub const MAX_DESCRIPTION: usize = 1_000;

/// One spell, as it is sent and stored. Unknown fields are refused: a misspelt one would be lost silently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spell {
    /// Unique in a storage.
    pub id: u32,
    /// Neither empty nor longer than [`MAX_NAME`].
    pub name: String,
    /// May be empty; not longer than [`MAX_DESCRIPTION`].
    pub description: String,
}

impl Spell {
    /// What every storage begins with.
    fn first_two() -> [Spell; 2] {
        [(1, "Lumos", "Wand-Lighting Charm"), (2, "Expelliarmus", "Disarming Charm")].map(
            |(id, name, description)| Spell {
                id,
                name: name.to_owned(),
                description: description.to_owned(),
            },
        )
    }

    /// Why this spell cannot be stored, if it cannot.
    fn fault(&self) -> Option<String> {
        if self.name.trim().is_empty() {
            Some("`name` is empty: a spell needs one".to_owned())
        } else if self.name.chars().count() > MAX_NAME {
            Some(format!("`name` is longer than {MAX_NAME} characters"))
        } else if self.description.chars().count() > MAX_DESCRIPTION {
            Some(format!("`description` is longer than {MAX_DESCRIPTION} characters"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Spell {
        Spell { id: 3, name: name.to_owned(), description: String::new() }
    }

    #[test]
    fn refuses_a_name_that_is_blank_or_too_long() {
        assert_eq!(named("Alohomora").fault(), None);
        assert_eq!(named(&"ä".repeat(MAX_NAME)).fault(), None);
        assert!(named("  ").fault().is_some_and(|why| why.contains("`name` is empty")));
        assert!(named(&"ä".repeat(MAX_NAME + 1)).fault().is_some_and(|why| why.contains("longer")));
    }

    #[test]
    fn refuses_a_description_that_is_too_long() {
        let spell = Spell { description: "x".repeat(MAX_DESCRIPTION + 1), ..named("Lumos") };
        assert!(spell.fault().is_some_and(|why| why.starts_with("`description`")));
    }
}
