package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

// E2E_JOURNAL names a file that gets one JSON line when a spec starts and one when it ends, from every parallel
// process, so that a run can be watched while it goes on and resumed after it was cut short. Beside it, in the
// directory `output`, lies the output of each failed spec.
const journalVariable = "E2E_JOURNAL"

type journalLine struct {
	Event    string   `json:"event"`
	Name     string   `json:"name"`
	Area     string   `json:"area,omitempty"`
	Process  int      `json:"process"`
	Time     string   `json:"time"`
	State    string   `json:"state,omitempty"`
	Seconds  float64  `json:"seconds,omitempty"`
	Labels   []string `json:"labels,omitempty"`
	Message  string   `json:"message,omitempty"`
	Location string   `json:"location,omitempty"`
	Output   string   `json:"output,omitempty"`
}

// registerJournal adds the hooks. It must come after framework.AfterReadingAllFlags, whose preview of the specs runs
// hooks registered before it, and drops them.
func registerJournal() {
	path := os.Getenv(journalVariable)
	if path == "" {
		return
	}
	ginkgo.ReportBeforeEach(func(report ginkgo.SpecReport) {
		if willRun(report) {
			appendLine(path, newLine("started", report))
		}
	})
	ginkgo.ReportAfterEach(func(report ginkgo.SpecReport) {
		if report.NumAttempts == 0 { // not selected: nothing ran
			return
		}
		line := newLine("finished", report)
		line.State = report.State.String()
		line.Seconds = report.RunTime.Seconds()
		line.Labels = report.Labels()
		line.Message = report.FailureMessage()
		if report.Failed() {
			line.Location = report.FailureLocation().String()
			line.Output = keepOutput(filepath.Join(filepath.Dir(path), "output"), report)
		}
		appendLine(path, line)
	})
}

func willRun(report ginkgo.SpecReport) bool {
	return !report.State.Is(types.SpecStatePending | types.SpecStateSkipped)
}

func newLine(event string, report ginkgo.SpecReport) journalLine {
	line := journalLine{
		Event:   event,
		Name:    report.FullText(),
		Process: report.ParallelProcess,
		Time:    time.Now().UTC().Format(time.RFC3339Nano),
	}
	for _, text := range report.ContainerHierarchyTexts {
		if text != "" {
			line.Area = text
			break
		}
	}
	return line
}

// appendLine adds one line with one write, so that lines of several processes do not mix.
func appendLine(path string, line journalLine) {
	text, err := json.Marshal(line)
	if err == nil {
		err = appendFile(path, append(text, '\n'))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "journal %s: %v\n", path, err)
	}
}

func appendFile(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.Write(text)
	return err
}

// keepOutput writes what the spec printed to a file and returns its name, empty when that failed.
func keepOutput(directory string, report ginkgo.SpecReport) string {
	sum := sha256.Sum256([]byte(report.FullText()))
	name := hex.EncodeToString(sum[:8]) + ".log"
	text := strings.Join([]string{report.FullText(), report.CapturedGinkgoWriterOutput, report.Failure.Message}, "\n")
	if os.MkdirAll(directory, 0o755) != nil || os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644) != nil {
		return ""
	}
	return name
}
