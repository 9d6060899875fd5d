//! The properties that the fuzz targets check. The wire crate's tests include [`checks`] as well.

pub mod checks;
