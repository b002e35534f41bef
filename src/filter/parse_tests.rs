//! What the parser takes, refuses and says; hostile texts.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::base::limits::{FILTER_CHARACTERS_MAX, FILTER_DEPTH_MAX};
use crate::base::{FieldDeclaration, FieldType};
use crate::filter::{FilterError, Predicate};

fn fields() -> Vec<FieldDeclaration> {
    [
        ("label", FieldType::Text),
        ("year", FieldType::Integer),
        ("loss", FieldType::Float),
        ("checked", FieldType::Boolean),
        ("day", FieldType::Timestamp),
        ("a-b", FieldType::Integer),
        ("date", FieldType::Timestamp),
        ("Null", FieldType::Boolean),
        ("rank", FieldType::Integer),
    ]
    .map(|(name, kind)| FieldDeclaration { name: name.to_owned(), kind })
    .to_vec()
}

fn parse(text: &str) -> Result<Predicate, FilterError> {
    Predicate::parse(text, &fields())
}

/// Parses `text`, expects it to print as `printed`, and that to read back.
fn prints(text: &str, printed: &str) {
    let predicate = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(predicate.to_string(), printed, "{text}");
    assert_eq!(parse(printed).as_ref(), Ok(&predicate), "{printed}");
}

#[test]
fn precedence_and_parentheses() {
    prints("checked OR checked AND NOT checked", "checked OR checked AND NOT checked");
    prints("(checked OR year=1) AND label='x'", "(checked OR year = 1) AND label = 'x'");
    prints("NOT checked AND year = 1", "NOT checked AND year = 1");
    prints("NOT (checked AND year = 1)", "NOT (checked AND year = 1)");
    prints("NOT year = 1 OR NOT NOT checked", "NOT year = 1 OR checked");
    prints("NOT (NOT (checked))", "checked");
    prints("((year)) = ((1))", "year = 1");
    prints("(checked AND (checked AND checked)) AND checked", "checked AND checked AND checked AND checked");
    prints("year between 1 and 2 and checked", "year >= 1 AND year <= 2 AND checked");
    prints("year not between 1 and 2", "NOT (year >= 1 AND year <= 2)");
}

#[test]
fn operands_and_literals() {
    prints("1 < year", "year > 1");
    prints("year != -5", "year <> -5");
    prints("year >= +5", "year >= 5");
    prints("year = 1e3", "year = 1000");
    prints("year < 99999999999999999999", "year < 9223372036854775808");
    prints("loss < 2", "loss < 2.0");
    prints("loss = 9007199254740993", "loss = 9007199254740993");
    prints("loss = -.5E-1", "loss = -0.05");
    prints("label = 'it''s'", "label = 'it''s'");
    prints("label = ''", "label = ''");
    prints("day > '2024-05-01'", "day > '2024-05-01T00:00:00Z'");
    prints("day = '2024-05-01 10:00:00.000001'", "day = '2024-05-01T10:00:00.000001Z'");
    prints("\"a-b\" = 1 AND \"year\" = 2", "\"a-b\" = 1 AND year = 2");
    prints("date = day", "date = day");
    prints("\"Null\" IS NULL", "\"Null\" IS NULL");
    prints("year < loss", "year < loss");
    prints("5 BETWEEN year AND rank", "year <= 5 AND rank >= 5");
    prints("checked = FALSE", "NOT checked");
    prints("checked <> FALSE", "checked");
    prints("TRUE AND (FALSE OR NOT NULL)", "TRUE AND (FALSE OR NULL)");
    prints("year = NULL", "NULL");
}

#[test]
fn lists_are_sorted_and_null_stays_last() {
    prints("label IN ('b', 'a', 'b')", "label IN ('a', 'b')");
    prints("year NOT IN (3, NULL, 1, 2.5)", "year NOT IN (1, 3, NULL)");
    prints("year IN (7, 7)", "year = 7");
    prints("year IN (7, NULL)", "year IN (7, NULL)");
    prints("year IN (2.5)", "year = 2.5");
    prints("year IN (2.5, NULL)", "NULL");
    prints("year IN (NULL)", "NULL");
    prints("loss IN (1, 0, -1e300)", "loss IN (-1e300, 0.0, 1.0)");
    prints("checked IN (FALSE, TRUE)", "checked OR NOT checked");
    prints("checked IN (FALSE, NULL) AND year = 1", "(NOT checked OR NULL) AND year = 1");
    prints("day IN ('1970-01-02', '1970-01-01')", "day IN ('1970-01-01T00:00:00Z', '1970-01-02T00:00:00Z')");
}

#[test]
fn patterns_print_with_the_escape_they_need() {
    prints("label LIKE 'a%%b_'", "label LIKE 'a%b_'");
    prints("label NOT LIKE 'c:\\%'", "label NOT LIKE 'c:\\%'");
    prints("label LIKE '100!%%' ESCAPE '!'", "label LIKE '100\\%%' ESCAPE '\\'");
    prints("label LIKE NULL", "NULL");
}

#[test]
fn only_the_fields_that_are_read_are_listed() {
    let names =
        |text: &str| parse(text).unwrap().fields().iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    assert_eq!(names("year > 1 AND label = 'x' AND year < 9"), ["year", "label"]);
    assert_eq!(names("loss = NULL OR checked"), ["checked"]);
    assert!(names("TRUE").is_empty());
}

/// Expects the error text to hold every one of `parts`.
fn refused(text: &str, parts: &[&str]) {
    let message = match parse(text) {
        Ok(predicate) => panic!("{text} was read as {predicate}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "{text}: {message:?} lacks {part:?}");
    }
}

#[test]
fn unknown_fields_list_the_known_ones() {
    refused("yaer = 1", &["\"yaer\"", "line 1, column 1", "did you mean \"year\"?", "label, year, loss"]);
    refused("checked AND\n  zzzzzz = 1", &["\"zzzzzz\"", "line 2, column 3"]);
    refused("YEAR = 1", &["did you mean \"year\"?"]);
    refused("label = \"wikipedia\"", &["\"wikipedia\"", "single quotes"]);
    let error = Predicate::parse("x = 1", &[]).unwrap_err().to_string();
    assert!(error.ends_with("declared fields: none"), "{error}");
}

#[test]
fn types_must_fit() {
    refused("label = 5", &["\"label\"", "text", " 5 ", "column 9", "single quotes"]);
    refused("year = '5'", &["\"year\"", "integer", "'5'", "without quotes"]);
    refused("5 = label", &["\"label\"", "column 1"]);
    refused("loss = 1e999", &["float", "1e999", "double precision"]);
    refused("loss > TRUE", &["float", "TRUE"]);
    refused("checked = 1", &["boolean", "TRUE or FALSE"]);
    refused("checked < TRUE", &["'<'", "\"checked\"", "no order"]);
    refused("checked BETWEEN FALSE AND TRUE", &["'>='", "no order"]);
    refused("day = 'yesterday'", &["timestamp", "'yesterday'", "RFC 3339"]);
    refused("day = ''", &["timestamp", "''"]);
    refused("day = '+12024-05-01'", &["timestamp"]);
    refused("day = 5", &["timestamp", " 5 "]);
    refused("year IN (1, 'x')", &["'x'", "column 13"]);
    refused("year LIKE '1%'", &["LIKE", "\"year\"", "integer"]);
    refused("year", &["use as a condition", "\"year\""]);
    refused("label AND checked", &["use as a condition", "\"label\"", "text"]);
    refused("label = year", &["\"label\"", "text", "\"year\"", "integer", "do not compare"]);
    refused("checked > \"Null\"", &["no order"]);
}

#[test]
fn other_constructs_are_named() {
    for (text, construct) in [
        ("lower(label) = 'x'", "function or keyword lower"),
        ("EXISTS (SELECT 1)", "function or keyword EXISTS"),
        ("CAST(year AS text) = '1'", "function or keyword CAST"),
        ("label ILIKE 'x'", "ILIKE"),
        ("label IN (SELECT 1)", "SELECT"),
        ("year IN (rank)", "a field inside IN"),
        ("year + 1 = 2", "arithmetic ('+'"),
        ("a-b = 2", "no field \"a\""),
        ("year -b = 2", "double quotes"),
        ("1 = 1", "comparing the literals 1 and 1"),
        ("1", "the literal 1 used as a condition"),
        ("(year = 1) = TRUE", "a condition used as a value"),
        ("year = (rank = 1)", "a condition used as a value"),
        ("5 IN (1)", "IN of the literal 5"),
        ("NULL IS NULL", "IS NULL of the literal NULL"),
        ("'x' LIKE 'x'", "LIKE of the literal 'x'"),
        ("year = 1 -- AND checked", "a comment"),
        ("label LIKE year", "it is a field"),
        ("label LIKE 'a' ESCAPE 'ab'", "ESCAPE takes one character"),
        ("label LIKE 'a!' ESCAPE '!'", "escape character"),
    ] {
        refused(text, &[construct]);
    }
}

#[test]
fn what_is_missing_or_too_much_is_said() {
    for (text, part) in [
        ("", "expected a field, a literal or '(', found the end"),
        ("   ", "found the end"),
        ("year =", "found the end"),
        ("year = 1 checked", "found \"checked\""),
        ("year = 1 = 2", "found '='"),
        ("year IS 5", "expected NULL or NOT NULL, found 5"),
        ("year NOT 5", "expected IN, BETWEEN or LIKE, found 5"),
        ("(year = 1", "expected AND, OR or ')', found the end"),
        ("year = 1)", "found ')'"),
        ("year IN ()", "found ')'"),
        ("year IN (1,)", "found ')'"),
        ("year IN 5", "expected '(' after IN"),
        ("year BETWEEN 1", "the upper end of BETWEEN"),
        ("year = - -1", "arithmetic"),
        ("AND checked", "found AND"),
        ("checked AND", "found the end"),
        ("label = 'x", "nterminated"),
        ("checked; checked", "a statement after ';'"),
    ] {
        refused(text, &[part]);
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(parse(&nested(FILTER_DEPTH_MAX, "checked")), parse("checked"));
    for text in [
        nested(FILTER_DEPTH_MAX + 1, "checked"),
        nested(FILTER_DEPTH_MAX, "year BETWEEN 1 AND 2"),
        nested(FILTER_DEPTH_MAX, "checked IN (TRUE, FALSE)"),
        "(".repeat(FILTER_CHARACTERS_MAX),
        "checked AND NOT (".repeat(3000),
        format!("year = {}", nested(5000, "1")),
    ] {
        assert!(matches!(parse(&text), Err(FilterError::TooDeep { .. })), "{}", &text[..20]);
    }
}

/// Alternating AND, OR and NOT, as deep as may be, with BETWEEN and IN at the bottom.
#[test]
fn the_deepest_filter_prints_and_reads_back() {
    let mut text = "NOT year BETWEEN 1 AND 2 OR NOT checked IN (TRUE, NULL)".to_owned();
    for level in 1..FILTER_DEPTH_MAX {
        let joiner = if level % 2 == 0 { "OR" } else { "AND" };
        text = format!("NOT ({text}) {joiner} checked");
    }
    let predicate = parse(&text).unwrap();
    assert_eq!(parse(&predicate.to_string()), Ok(predicate.clone()));
    assert_eq!(predicate.clone(), predicate);
}

/// Each text is as long as allowed and must end soon, within the stack of a test thread, whatever comes out.
#[test]
fn hostile_texts_end_soon() {
    let full = |piece: &str| piece.repeat(FILTER_CHARACTERS_MAX / piece.len());
    let mut texts: Vec<String> = [
        "NOT ",
        "NOT (",
        "(",
        ")",
        "((1),",
        "year=",
        "year=1 OR ",
        "- ",
        "'",
        "\"",
        "`",
        "$",
        "$$",
        "/*",
        "*/",
        "--",
        "e'",
        "U&'\\0",
        "1e",
        "1.",
        "0x",
        "checked IS NULL ",
        "ARRAY<",
        "CASE WHEN ",
        "CAST(",
        "x.",
        "[",
        "{",
        "year IN (",
        "year BETWEEN ",
        "label LIKE ",
        "@",
        "::",
        "\u{1f600}",
        "\0",
        "q'[",
        "INTERVAL ",
        "year BETWEEN 1 AND ",
    ]
    .map(full)
    .to_vec();
    texts.push(format!("{}checked", full("NOT ").split_at(FILTER_CHARACTERS_MAX - 8).0));
    texts.push(format!("year = {}", "9".repeat(60_000)));
    texts.push(format!("loss = 0.{}1", "0".repeat(60_000)));
    texts.push(format!("loss = 1e-{}", "9".repeat(60_000)));
    texts.push(format!("year IN ({}1)", "1,".repeat(30_000)));
    texts.push(format!("{} = 1", "x".repeat(60_000)));
    texts.push(format!("label LIKE '{}'", "%_".repeat(30_000)));
    texts.push(format!("label = '{}'", "''".repeat(30_000)));
    for text in texts {
        let start = Instant::now();
        if let Ok(predicate) = parse(&text) {
            assert!(!predicate.to_string().is_empty());
        }
        let shown: String = text.chars().take(20).collect();
        assert!(start.elapsed() < Duration::from_secs(5), "{shown}: {:?}", start.elapsed());
    }
}

#[test]
fn long_flat_chains_are_read() {
    for joiner in [" OR ", " AND "] {
        let terms = vec!["year=1"; 5900];
        let text = terms.join(joiner);
        let predicate = parse(&text).unwrap();
        assert_eq!(predicate.to_string().matches(joiner).count(), terms.len() - 1);
        let mixed = ["year=1 AND checked"; 2900].join(" OR ");
        assert!(parse(&mixed).is_ok());
        assert!(parse(&format!("{text} (")).is_err());
    }
    let too_long = format!("{} OR checked", ["checked"; 8000].join(" OR "));
    assert!(matches!(parse(&too_long), Err(FilterError::TooLong { limit: FILTER_CHARACTERS_MAX })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the text, there is an answer; and what is read prints as something that reads the same.
    #[test]
    fn any_sequence_of_words_is_read_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "year", "label", "loss", "checked", "day", "\"a-b\"", "rank", "=", "<>", "<", ">=", "AND", "OR",
                "NOT", "(", ")", "IN", "BETWEEN", "LIKE", "ESCAPE", "IS", "NULL", "TRUE", "FALSE", "'x%'", "'!'",
                "'2024-05-01'", "1", "-", "2.5", "1e3", ",", "(1, 2)", "('a', NULL)", "= 1", "AND checked",
            ]),
            0..14,
        ),
    ) {
        let text = words.join(" ");
        if let Ok(predicate) = parse(&text) {
            let printed = predicate.to_string();
            prop_assert_eq!(parse(&printed), Ok(predicate), "{} -> {}", text, printed);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        let _ = parse(&text);
    }
}
