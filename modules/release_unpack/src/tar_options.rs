//! The options of `tar` that users of `unarchive` pass in `extra_opts`.

use oxistrano_core::Failure;

/// What they ask for; `None`: the default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TarOptions {
    pub strip_components: Option<u32>,
    pub exclude: Vec<String>,
    pub same_owner: Option<bool>,
    pub same_permissions: Option<bool>,
}

/// Understands `--option=value` and `--option value`.
///
/// # Errors
/// `unsupported_option` for all others: leaving one out would unpack something else
/// than was asked for.
pub fn parse(options: &[String]) -> Result<TarOptions, Failure> {
    let mut parsed = TarOptions::default();
    let mut options = options.iter().flat_map(|option| option.split_whitespace());
    while let Some(option) = options.next() {
        let (name, mut value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match name {
            "--strip-components" | "--strip" => {
                let number = value.take().or_else(|| options.next());
                match number.and_then(|number| number.parse().ok()) {
                    Some(number) => parsed.strip_components = Some(number),
                    None => return Err(refused(option, "it requires a number")),
                }
            }
            "--exclude" => match value.take().or_else(|| options.next()) {
                Some(pattern) => parsed.exclude.push(pattern.trim_matches(['\'', '"']).to_owned()),
                None => return Err(refused(option, "it requires a pattern")),
            },
            "--same-owner" => parsed.same_owner = Some(true),
            "--no-same-owner" | "-o" => parsed.same_owner = Some(false),
            "--same-permissions" | "--preserve-permissions" | "-p" => {
                parsed.same_permissions = Some(true);
            }
            "--no-same-permissions" => parsed.same_permissions = Some(false),
            // What the module does anyway.
            "--overwrite" | "--sparse" | "-S" | "-z" | "-j" | "-J" | "--gzip" | "--bzip2"
            | "--xz" | "--zstd" => {}
            _ => return Err(refused(option, "release_unpack does not support it")),
        }
        if value.is_some() {
            return Err(refused(option, "it does not take a value"));
        }
    }
    Ok(parsed)
}

fn refused(option: &str, why: &str) -> Failure {
    Failure::new(
        "unsupported_option",
        format!("unsupported tar option '{}'", option.escape_debug()),
    )
    .cause(why)
    .remedy(
        "supported are --strip-components, --exclude, --[no-]same-owner and \
         --[no-]same-permissions; see also owner, mode, strip_components and exclude",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(options: &[&str]) -> Result<TarOptions, Failure> {
        parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_usual_ones_are_understood() {
        let parsed = parse_all(&[
            "--strip-components=1",
            "--exclude",
            "*.pdf",
            "--no-same-owner",
            "--strip 2",
        ])
        .unwrap();
        assert_eq!(
            parsed,
            TarOptions {
                strip_components: Some(2),
                exclude: vec!["*.pdf".into()],
                same_owner: Some(false),
                same_permissions: None
            }
        );
    }

    #[test]
    fn the_others_are_refused_by_name() {
        for option in ["--transform=s/a/b/", "--strip-components=x", "--strip", "--same-owner=1"] {
            assert!(parse_all(&[option]).unwrap_err().to_string().contains(option), "{option}");
        }
    }
}
