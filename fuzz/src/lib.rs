//! The properties that the fuzz targets check. The wire crate's tests include [`checks`] as well, the gateway's tests
//! [`http_face`].

pub mod checks;
pub mod http_face;
