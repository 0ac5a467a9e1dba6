//! The line of a field in a YAML document, for messages.

/// The line, from 1, of the field with the path `field` (`spec.raft.minMajority`), or of the nearest
/// field above it that is there. Knows block mappings; what is written in one line, or in a list,
/// has the line of what it is in.
pub fn line_of(text: &str, field: &str) -> Option<usize> {
    let path: Vec<&str> = field.split('.').filter(|part| !part.is_empty()).collect();
    let mut found = None;
    let mut depth = 0;
    let mut within: Option<usize> = None;
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        if content.trim().is_empty() || content.starts_with('#') || content.starts_with("---") {
            continue;
        }
        if within.is_some_and(|outer| indent <= outer) {
            break;
        }
        let Some(wanted) = path.get(depth) else {
            break;
        };
        let key = content
            .split(':')
            .next()
            .unwrap_or(content)
            .trim_matches(['"', '\'', ' ']);
        let wanted = wanted.split('[').next().unwrap_or(wanted);
        if key == wanted && (depth > 0 || indent == 0) {
            found = Some(index + 1);
            within = Some(indent);
            depth += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::line_of;

    const TEXT: &str = "\
# A comment: spec
kind: RaftCluster
spec:
  replicas: 3

  podTemplate:
    env:
      - name: replicas
    labels: {a: b}
  raft:
    minMajority: 2
replicas: 7
";

    #[test]
    fn a_field_has_a_line() {
        assert_eq!(line_of(TEXT, "kind"), Some(2));
        assert_eq!(line_of(TEXT, "spec.replicas"), Some(4));
        assert_eq!(line_of(TEXT, "spec.raft.minMajority"), Some(11));
    }

    #[test]
    fn what_is_missing_or_inline_has_the_line_of_what_is_around_it() {
        assert_eq!(line_of(TEXT, "spec.raft.heartbeat"), Some(10));
        assert_eq!(line_of(TEXT, "spec.podTemplate.labels.a"), Some(9));
        assert_eq!(line_of(TEXT, "spec.podTemplate.env[0].name"), Some(7));
        assert_eq!(line_of(TEXT, "metadata.name"), None);
    }
}
