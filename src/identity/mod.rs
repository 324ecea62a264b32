//! Who somebody says they are, and whether it is true: API keys, tokens of users, visitors and tickets.
//!
//! Nothing here knows the record: [`pepper`] makes and recognises what this program hands out, [`jwt`] and [`jwks`] judge
//! what others sign, [`applications`] is what the settings say of each application.
//!
//! To add a way of signing: 1. its algorithm in [`jwks`], taken from the key and never from the token; 2. a hostile
//! token of that kind among the tests.

pub mod applications;
pub mod bearer;
pub mod jwks;
pub mod jwt;
pub mod pepper;
pub mod settings;
pub mod visitor;
