//! YAML as configuration files use it: block mappings, changed line by line.

use serde_json::Value;

use super::document::Document;
use super::lines::Lines;
use super::yaml_value::{self, Piece};
use crate::error::{Error, Result};

/// A YAML file of nested mappings (`mongod.conf`, `cassandra.yaml`). Of a stream of documents, the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yaml {
    lines: Lines<()>,
}

/// A key of a mapping and the lines that are its value.
#[derive(Debug, Clone)]
struct Node {
    key: String,
    /// The key's line.
    at: usize,
    indent: usize,
    /// After its last line that is neither blank nor a comment.
    end: usize,
}

impl Yaml {
    fn text(&self, at: usize) -> &str {
        self.lines.get(at).map_or("", |line| line.text())
    }

    fn is_blank(&self, at: usize) -> bool {
        let text = self.text(at).trim_start_matches([' ', '\t', '\r']);
        text.is_empty() || text.starts_with('#')
    }

    /// Lines of the first document.
    fn document(&self) -> std::ops::Range<usize> {
        let marker = |at: &usize, mark: &str| {
            self.text(*at).strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
        };
        let first = (0..self.lines.len()).find(|at| !self.is_blank(*at) && !self.text(*at).starts_with('%'));
        let start = first.map_or(self.lines.len(), |at| if marker(&at, "---") { at + 1 } else { at });
        let end = (start..self.lines.len()).find(|at| marker(at, "---") || marker(at, "...")).unwrap_or(self.lines.len());
        start..end
    }

    fn indent(&self, at: usize) -> usize {
        self.text(at).chars().take_while(|c| *c == ' ').count()
    }

    /// The keys of the mapping in these lines; none when they hold something else.
    fn nodes(&self, lines: std::ops::Range<usize>) -> Vec<Node> {
        let Some(first) = lines.clone().find(|at| !self.is_blank(*at)) else { return Vec::new() };
        let (indent, last) = (self.indent(first), lines.end);
        let mut nodes: Vec<Node> = Vec::new();
        for at in lines.filter(|at| !self.is_blank(*at)) {
            let here = self.indent(at);
            let content = self.text(at).trim_start_matches(' ');
            let item = content == "-" || content.starts_with("- ");
            match (here.cmp(&indent), yaml_value::key(content)) {
                (std::cmp::Ordering::Equal, Some((key, _))) if !item => nodes.push(Node { key, at, indent, end: at + 1 }),
                // A list may stand as far to the left as its key.
                (std::cmp::Ordering::Equal, _) if !item => return Vec::new(),
                (std::cmp::Ordering::Less, _) => return Vec::new(),
                _ => match nodes.last_mut() {
                    Some(node) => node.end = at + 1,
                    None => return Vec::new(),
                },
            }
        }
        // In a block of text what looks like a comment is none.
        let is_text = |at: usize| at < last && self.indent(at) > indent && !self.text(at).trim().is_empty();
        for node in nodes.iter_mut().filter(|node| self.own_value(node).starts_with(['|', '>'])) {
            node.end += (node.end..).take_while(|at| is_text(*at)).count();
        }
        nodes
    }

    /// Follows a path as far as it goes: the nodes on the way.
    fn follow(&self, path: &[&str]) -> Vec<Node> {
        let mut way: Vec<Node> = Vec::new();
        let mut lines = self.document();
        for wanted in path {
            let Some(node) = self.nodes(lines).into_iter().rfind(|node| node.key == *wanted) else { break };
            lines = if self.own_value(&node).is_empty() { node.at + 1..node.end } else { 0..0 };
            way.push(node);
        }
        way
    }

    /// What stands in the line of the key, without its comment.
    fn own_value(&self, node: &Node) -> &str {
        let content = self.text(node.at).trim_start_matches(' ');
        yaml_value::key(content).map_or("", |(_, rest)| yaml_value::split_comment(rest).0.trim_matches([' ', '\t', '\r']))
    }

    fn value(&self, node: &Node) -> Option<Value> {
        let mut pieces = Vec::new();
        let own = self.own_value(node);
        if !own.is_empty() {
            pieces.push(Piece { indent: node.indent + 1, text: own.to_owned() });
        }
        let below = node.at + 1..node.end;
        // Inside a block of text every line counts, and none of them is for us.
        let opaque = own.starts_with(['|', '>', '&', '*', '!']);
        pieces.extend(below.filter(|at| !self.is_blank(*at)).map(|at| {
            let text = yaml_value::split_comment(self.text(at).trim_start_matches(' ')).0.trim_end_matches([' ', '\t', '\r']);
            Piece { indent: self.indent(at), text: text.to_owned() }
        }));
        if opaque { None } else { yaml_value::parse(&pieces) }
    }

    /// How much deeper the next level of this file is.
    fn step(&self) -> usize {
        let indents: Vec<usize> = self.document().filter(|at| !self.is_blank(*at)).map(|at| self.indent(at)).collect();
        indents.windows(2).filter_map(|pair| pair[1].checked_sub(pair[0])).find(|step| *step > 0).unwrap_or(2)
    }

    /// Puts a scalar, a list or an empty mapping where `path` says.
    fn set_leaf(&mut self, path: &[&str], text: &str) -> Result<()> {
        let way = self.follow(path);
        if let (Some(node), true) = (way.last(), way.len() == path.len()) {
            let (line, indent) = (self.text(node.at).to_owned(), node.indent);
            let content = line.trim_start_matches(' ');
            let rest = yaml_value::key(content).map_or("", |(_, rest)| rest);
            let head = content.strip_suffix(rest).unwrap_or(content);
            let comment = yaml_value::split_comment(rest).1;
            let gap = rest.strip_suffix(comment).unwrap_or(rest);
            let gap = gap.strip_prefix(gap.trim_end_matches([' ', '\t'])).filter(|gap| !gap.is_empty()).unwrap_or(" ");
            let tail = if comment.is_empty() { String::new() } else { format!("{gap}{comment}") };
            self.lines.replace(node.at, &format!("{:indent$}{head} {text}{tail}", ""), ());
            (node.at + 1..node.end).rev().for_each(|at| self.lines.remove(at));
            return Ok(());
        }
        if let Some(parent) = way.last() {
            let own = self.own_value(parent).to_owned();
            let below = self.nodes(parent.at + 1..parent.end);
            let replaceable = matches!(own.as_str(), "" | "{}" | "~" | "null");
            if !replaceable || (below.is_empty() && parent.end > parent.at + 1) {
                return Err(Error::invalid(format!(
                    "'{}' is not a mapping of lines of its own: nothing can be put into it",
                    parent.key.escape_debug()
                )));
            }
            if !own.is_empty() {
                let key = parent.key.clone();
                let indent = parent.indent;
                self.lines.replace(parent.at, &format!("{:indent$}{}:", "", yaml_value::scalar(&Value::from(key))?), ());
            }
            let indent = below.first().map_or(parent.indent + self.step(), |node| node.indent);
            return self.insert(parent.end, indent, &path[way.len()..], text);
        }
        let document = self.document();
        let nodes = self.nodes(document.clone());
        if nodes.is_empty() && document.clone().any(|at| !self.is_blank(at)) {
            return Err(Error::invalid("the file is not a mapping: nothing can be put into it"));
        }
        let at = nodes.last().map_or(document.end, |node| node.end);
        let indent = nodes.first().map_or(0, |node| node.indent);
        self.insert(at, indent, path, text)
    }

    fn insert(&mut self, at: usize, indent: usize, path: &[&str], text: &str) -> Result<()> {
        let step = self.step();
        let keys = path.iter().map(|key| yaml_value::scalar(&Value::from(*key))).collect::<Result<Vec<_>>>()?;
        for (depth, key) in keys.iter().enumerate() {
            let value = if depth + 1 == keys.len() { format!(" {text}") } else { String::new() };
            let indent = indent + depth * step;
            self.lines.insert(at + depth, &format!("{:indent$}{key}:{value}", ""), ());
        }
        Ok(())
    }

    fn collect(&self, lines: std::ops::Range<usize>, path: &[String], settings: &mut Vec<(Vec<String>, Value)>) {
        for node in self.nodes(lines) {
            let path: Vec<String> = path.iter().cloned().chain([node.key.clone()]).collect();
            let inside = node.at + 1..node.end;
            if self.own_value(&node).is_empty() && !self.nodes(inside.clone()).is_empty() {
                self.collect(inside, &path, settings);
            } else if let Some(value) = self.value(&node) {
                settings.retain(|(other, _)| *other != path);
                settings.push((path, value));
            }
        }
    }
}

impl Document for Yaml {
    fn parse(text: &str) -> Yaml {
        Yaml { lines: Lines::parse(text, |_| ()) }
    }

    fn render(&self) -> String {
        self.lines.render()
    }

    fn settings(&self) -> Vec<(Vec<String>, Value)> {
        let mut settings = Vec::new();
        self.collect(self.document(), &[], &mut settings);
        settings
    }

    fn get(&self, path: &[&str]) -> Option<Value> {
        let way = self.follow(path);
        let node = way.last().filter(|_| way.len() == path.len() && !path.is_empty())?;
        self.value(node)
    }

    fn set(&mut self, path: &[&str], value: &Value) -> Result<()> {
        if path.is_empty() {
            return Err(Error::invalid("a setting has a name"));
        }
        if self.get(path).as_ref() == Some(value) {
            return Ok(());
        }
        let mut changed = self.clone();
        match value {
            Value::Object(children) if !children.is_empty() => {
                changed.remove(path);
                for (name, child) in children {
                    let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
                    changed.set(&path, child)?;
                }
            }
            _ => changed.set_leaf(path, &yaml_value::write(value)?)?,
        }
        if Yaml::parse(&changed.render()).get(path).as_ref() != Some(value) {
            return Err(Error::invalid(format!("a file like this cannot hold this value of '{}'", path.join(".").escape_debug())));
        }
        *self = changed;
        Ok(())
    }

    fn remove(&mut self, path: &[&str]) -> bool {
        let way = self.follow(path);
        let Some(node) = way.last().filter(|_| way.len() == path.len() && !path.is_empty()) else { return false };
        (node.at..node.end).rev().for_each(|at| self.lines.remove(at));
        // Nor does what was in an earlier one of the same name come back.
        self.remove(path);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::flat::tests::keeps_its_promises;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const MONGOD: &str = "# mongod.conf\n\n# Where data is\nstorage:\n  dbPath: /var/lib/mongodb\n#  engine:\n  journal: {enabled: true}\n\n# where to write\nsystemLog:\n  \
        destination: file # or syslog\n  path: \"/var/log/mongodb/mongod.log\"\n\nnet:\n    port: 27017\n    bindIp: 127.0.0.1\n\n#security:\n#replication:\n";

    #[test]
    fn comments_and_order_stay() {
        let mut file = Yaml::parse(MONGOD);
        assert_eq!(file.get(&["net", "port"]), Some(json!(27017)));
        assert_eq!(file.get(&["storage", "journal"]), Some(json!({"enabled": true})));
        assert_eq!(file.get(&["systemLog", "destination"]), Some(json!("file")));
        file.set(&["systemLog", "destination"], &json!("syslog")).unwrap();
        file.set(&["net", "bindIp"], &json!("127.0.0.1,::1")).unwrap();
        file.set(&["net", "tls", "mode"], &json!("requireTLS")).unwrap();
        file.set(&["security"], &json!({"authorization": "enabled", "keyFile": "/etc/mongo_key"})).unwrap();
        assert!(file.set(&["storage", "journal", "enabled"], &json!(false)).is_err());
        assert!(file.remove(&["storage", "journal"]) && !file.remove(&["storage", "nothing"]));
        let expected = "# mongod.conf\n\n# Where data is\nstorage:\n  dbPath: /var/lib/mongodb\n#  engine:\n\n# where to write\nsystemLog:\n  destination: syslog # or syslog\n  \
            path: \"/var/log/mongodb/mongod.log\"\n\nnet:\n    port: 27017\n    bindIp: \"127.0.0.1,::1\"\n    tls:\n      mode: requireTLS\nsecurity:\n  authorization: enabled\n  \
            keyFile: /etc/mongo_key\n\n#security:\n#replication:\n";
        assert_eq!(file.render(), expected);
    }

    #[test]
    fn lists_and_text_are_understood() {
        let text = "---\ncluster_name: 'Test ''Cluster'''\nseed_provider:\n  # Addresses\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n    parameters:\n      - seeds: \"127.0.0.1,::1\"\n\
            data_file_directories:\n- /a\n- /b # two\nempty:\nnumbers: [1, 2.5, -3, x]\nnotes: |\n  key: no\n   # no\nlast: yes\n...\nother: 1\n";
        let mut file = Yaml::parse(text);
        let seeds = json!([{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": [{"seeds": "127.0.0.1,::1"}]}]);
        assert_eq!(file.get(&["seed_provider"]), Some(seeds));
        assert_eq!(file.get(&["cluster_name"]), Some(json!("Test 'Cluster'")));
        assert_eq!(file.get(&["data_file_directories"]), Some(json!(["/a", "/b"])));
        assert_eq!(file.get(&["numbers"]), Some(json!([1, 2.5, -3, "x"])));
        assert_eq!((file.get(&["empty"]), file.get(&["notes"]), file.get(&["other"])), (Some(Value::Null), None, None));
        file.set(&["data_file_directories"], &json!(["/c d", "yes"])).unwrap();
        file.set(&["notes"], &json!("a\nb")).unwrap();
        file.set(&["new"], &json!(null)).unwrap();
        let rendered = file.render();
        assert!(rendered.contains("data_file_directories: [\"/c d\", \"yes\"]\nempty:\n"), "{rendered}");
        assert!(rendered.ends_with("notes: \"a\\nb\"\nlast: yes\nnew: null\n...\nother: 1\n"), "{rendered}");
    }

    proptest! {
        #[test]
        fn any_text_is_kept_and_any_value_comes_back(
            text in "(#|-|:|net|port| |  |\\[|\\]|\\{|\\}|,|\"|'|\\||&|\\*|---|\\.\\.\\.|\\PC|\t|\r|\n|\r\n|\n  ){0,40}", value in any::<String>()
        ) {
            let file = Yaml::parse(&text);
            prop_assert_eq!(file.render(), text);
            let mut changed = file.clone();
            if changed.set(&["net", "port"], &Value::from(value.clone())).is_ok() {
                prop_assert_eq!(Yaml::parse(&changed.render()).get(&["net", "port"]), Some(Value::from(value)));
            } else {
                prop_assert_eq!(changed, file);
            }
        }

        #[test]
        fn promises(keys in proptest::collection::vec("[a-z]{1,3}", 0..5), value in any::<String>()) {
            let text: String = keys.iter().enumerate().map(|(at, key)| format!("{key}{at}: # c\n    in: {at} # d\n# e\n")).collect();
            keeps_its_promises::<Yaml>(&text, &["x"], &value);
        }
    }
}
