// Compiles and evaluates CEL with daprd's own code: one JSON document a line in, one out.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/dapr/dapr/pkg/expr"
)

const patience = 60 * time.Second

type question struct {
	Expression string
	Variables  []map[string]any
}

type answer struct {
	Error   string `json:"error"`
	Results []any  `json:"results"`
}

// A panic ends this program, as it would end daprd.
func judge(asked question) (found answer) {
	compiled := &expr.Expr{}
	if err := compiled.DecodeString(asked.Expression); err != nil {
		found.Error = err.Error()
		return
	}
	for _, variables := range asked.Variables {
		value, err := compiled.Eval(variables)
		truth, isBool := value.(bool)
		switch {
		case err != nil:
			found.Results = append(found.Results, err.Error())
		case isBool:
			found.Results = append(found.Results, truth)
		default:
			found.Results = append(found.Results, fmt.Sprintf("no boolean: %T", value))
		}
	}
	return
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked question
		if err := json.Unmarshal(line, &asked); err != nil {
			panic(err)
		}
		done := make(chan answer, 1)
		go func() { done <- judge(asked) }()
		select {
		case found := <-done:
			_ = out.Encode(found)
		case <-time.After(patience):
			fmt.Fprintln(os.Stderr, "no answer in", patience, "to", asked.Expression)
			os.Exit(3)
		}
	}
}
