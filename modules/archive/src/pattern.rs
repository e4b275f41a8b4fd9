//! Owns the patterns of `exclude`: what GNU tar's `--exclude` means by default.
//!
//! A pattern may begin at any directory of a name, its wildcards match `/` too, and what
//! matches a directory also matches everything below it. As with GNU tar, a pattern that
//! ends in `/` matches nothing.

/// One `exclude` pattern: `*`, `?`, `[a-z]`, `[!a-z]`, `[[:digit:]]`, and `\` before a
/// character that is meant literally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(u8),
    AnyOne,
    AnyNumber,
    Set { negated: bool, members: Vec<Member> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    Range(char, char),
    Class(Class),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Alpha,
    Digit,
    Alnum,
    Upper,
    Lower,
    Space,
    Punct,
    Xdigit,
}

impl Pattern {
    /// Every text is a pattern: a `[` without its `]` means itself.
    pub fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                // Two stars say no more than one and would cost time.
                '*' if tokens.last() == Some(&Token::AnyNumber) => {}
                '*' => tokens.push(Token::AnyNumber),
                '?' => tokens.push(Token::AnyOne),
                '[' => match set_of(rest) {
                    Some((set, after)) => {
                        tokens.push(set);
                        rest = after;
                    }
                    None => tokens.push(Token::Literal(b'[')),
                },
                '\\' => {
                    let meant = rest.chars().next().unwrap_or('\\');
                    rest = rest.get(meant.len_utf8()..).unwrap_or_default();
                    push_literal(&mut tokens, meant);
                }
                c => push_literal(&mut tokens, c),
            }
        }
        Self { text: text.to_owned(), tokens }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it excludes the entry of this name.
    pub fn matches(&self, name: &[u8]) -> bool {
        let end = name.len() - name.iter().rev().take_while(|b| **b == b'/').count();
        let name = &name[..end];
        if self.matches_from(name) {
            return true;
        }
        name.iter().enumerate().any(|(at, byte)| {
            let rest = name.get(at + 1..).unwrap_or_default();
            *byte == b'/' && rest.first() != Some(&b'/') && self.matches_from(rest)
        })
    }

    /// Whether it matches `text` or one of its leading directories. Only the last star
    /// has to be reconsidered, so the time is at most the product of the two lengths.
    fn matches_from(&self, text: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        loop {
            let step = match self.tokens.get(token) {
                None if at == text.len() || text[at] == b'/' => return true,
                None => None,
                Some(Token::AnyNumber) => {
                    star = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                Some(one) => one.matches_one(&text[at..]),
            };
            match (step, star) {
                (Some(length), _) => {
                    token += 1;
                    at += length;
                }
                (None, Some((after, from))) if from < text.len() => {
                    let next = from + first_char(&text[from..]).1;
                    star = Some((after, next));
                    (token, at) = (after, next);
                }
                (None, _) => return false,
            }
        }
    }
}

impl Token {
    /// The length of what it matches at the beginning of `text`.
    fn matches_one(&self, text: &[u8]) -> Option<usize> {
        let byte = *text.first()?;
        match self {
            Token::Literal(wanted) => (*wanted == byte).then_some(1),
            Token::AnyOne => Some(first_char(text).1),
            Token::AnyNumber => Some(0),
            Token::Set { negated, members } => {
                let (c, length) = first_char(text);
                let found = members.iter().any(|member| match member {
                    Member::Range(from, to) => (*from..=*to).contains(&c),
                    Member::Class(class) => class.has(c),
                });
                (found != *negated).then_some(length)
            }
        }
    }
}

fn push_literal(tokens: &mut Vec<Token>, c: char) {
    tokens.extend(c.encode_utf8(&mut [0; 4]).bytes().map(Token::Literal));
}

/// The first character and its length; a byte that is no UTF-8 counts as one character.
fn first_char(text: &[u8]) -> (char, usize) {
    let head = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => (c, c.len_utf8()),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// Reads what follows a `[`; returns the set and what comes after its `]`.
fn set_of(text: &str) -> Option<(Token, &str)> {
    let (negated, mut rest) = match text.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut members = Vec::new();
    loop {
        if let Some((name, after)) = rest.strip_prefix("[:").and_then(|r| r.split_once(":]")) {
            members.push(Member::Class(Class::named(name)?));
            rest = after;
            continue;
        }
        let (from, after) = member(rest)?;
        // A `]` in the first place is a member.
        if from == ']' && rest.starts_with(']') && !members.is_empty() {
            return Some((Token::Set { negated, members }, after));
        }
        rest = after;
        let mut to = from;
        if let Some(after) = rest.strip_prefix('-').filter(|after| !after.starts_with(']')) {
            (to, rest) = member(after)?;
        }
        members.push(Member::Range(from, to));
    }
}

fn member(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    let c = match chars.next()? {
        '\\' => chars.next()?,
        c => c,
    };
    Some((c, chars.as_str()))
}

impl Class {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "alpha" => Class::Alpha,
            "digit" => Class::Digit,
            "alnum" => Class::Alnum,
            "upper" => Class::Upper,
            "lower" => Class::Lower,
            "space" => Class::Space,
            "punct" => Class::Punct,
            "xdigit" => Class::Xdigit,
            _ => return None,
        })
    }

    fn has(self, c: char) -> bool {
        match self {
            Class::Alpha => c.is_alphabetic(),
            Class::Digit => c.is_ascii_digit(),
            Class::Alnum => c.is_alphanumeric(),
            Class::Upper => c.is_uppercase(),
            Class::Lower => c.is_lowercase(),
            Class::Space => c.is_whitespace(),
            Class::Punct => c.is_ascii_punctuation(),
            Class::Xdigit => c.is_ascii_hexdigit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn excludes(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).matches(name.as_bytes())
    }

    /// Each line was tried with GNU tar 1.34.
    #[test]
    fn it_agrees_with_gnu_tar() {
        for (pattern, name, excluded) in [
            ("dir", "./a/dir/", true),
            ("dir", "./a/dir/sub/x.pdf", true),
            ("dir", "./a/director", false),
            ("dir/", "./a/dir/sub", false),
            ("dir/*", "./a/dir/", false),
            ("dir/*", "./a/dir/sub/", true),
            ("dir/*", "./a/dir/sub/x.pdf", true),
            ("*.pdf", "./a/dir/sub/x.pdf", true),
            ("*.pdf", "x.pdf/inside", true),
            ("./a", "./a/y.txt", true),
            ("a/dir", "./a/dir", true),
            ("/a", "./a", false),
            ("[ab]/dir", "./b/dir", true),
            ("[!a]/dir", "./a/dir", false),
            ("[^a]/dir", "./b/dir", true),
            ("sub/x?pdf", "./a/dir/sub/x.pdf", true),
            ("a*f", "./a/dir/sub/x.pdf", true),
            ("x\\.pdf", "./x.pdf", true),
            ("\\*", "./x", false),
            ("[[:digit:]]*", "v/9x", true),
            ("[", "a/[", true),
            ("[]]", "a/]", true),
        ] {
            assert_eq!(excludes(pattern, name), excluded, "{pattern} {name}");
        }
    }

    #[test]
    fn a_question_mark_is_one_character_whatever_its_length() {
        assert!(excludes("a?b", "aüb"));
        assert!(Pattern::new("a?b").matches(b"a\xffb"));
        assert!(!excludes("a?b", "aüüb"));
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let pattern = "*a".repeat(40) + "b";
        assert!(!excludes(&pattern, &"a".repeat(4000)));
    }

    /// The definition, by plain recursion, for `*`, `?` and literals.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty() || text[0] == b'/',
            Some((b'*', rest)) => (0..=text.len()).any(|n| slow(rest, &text[n..])),
            Some((b'?', rest)) => !text.is_empty() && slow(rest, &text[1..]),
            Some((c, rest)) => text.first() == Some(c) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab/*?]{0,8}", name in "[ab/]{0,10}[ab]") {
            let starts = (0..name.len()).filter(|n| *n == 0
                || name.as_bytes()[n - 1] == b'/' && name.as_bytes()[*n] != b'/');
            let expected = starts.map(|n| &name.as_bytes()[n..]).any(|t| slow(pattern.as_bytes(), t));
            prop_assert_eq!(excludes(&pattern, &name), expected);
        }

        #[test]
        fn a_name_excludes_itself_and_what_is_below(name in "[a-z]{1,5}(/[a-z]{1,5}){0,3}") {
            prop_assert!(excludes(&name, &name));
            let below = format!("top/{}/below", name);
            prop_assert!(excludes(&name, &below));
            let longer = format!("{}x", name);
            prop_assert!(!excludes(&name, &longer) || name.contains('/'));
        }

        #[test]
        fn no_text_is_too_strange(pattern in "\\PC{0,20}|[\\[\\]!^\\\\:a-]{0,12}", name in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Pattern::new(&pattern).matches(&name);
        }

        #[test]
        fn escaped_text_matches_only_itself(text in "[a*?\\[\\]\\\\]{1,8}", other in "[a*?\\[\\]\\\\]{1,8}") {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(excludes(&escaped, &text));
            prop_assert_eq!(excludes(&escaped, &other), text == other);
        }
    }
}
