//! The keys of the engine's two tables, each a type of its own.

use crate::base::slab::{Key, SlabKey};

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub struct $name(Key);

            impl SlabKey for $name {
                #[inline]
                fn of(key: Key) -> Self {
                    $name(key)
                }

                #[inline]
                fn key(self) -> Key {
                    self.0
                }
            }
        )*
    };
}

keys! {
    /// Names a client connection of a worker, for as long as it lives.
    ClientKey
    /// Names an upstream connection of a worker, for as long as it lives.
    UpstreamKey
}
