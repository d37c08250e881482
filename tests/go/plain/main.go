// Sends events as Go programs do, with nothing but the standard library: NDJSON by net/http, Basic authentication, several at a
// time on the default client's connections. Prints the lines that were answered for.
//
//	go run . URL USER PASSWORD
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

func send(worker, number int) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	for i := 0; i < 10; i++ {
		err := encoder.Encode(map[string]any{
			"event_id":     fmt.Sprintf("%d-%d-%d", worker, number, i),
			"event_time":   time.Now().UTC().Format(time.RFC3339Nano),
			"event_type":   "metric",
			"event_name":   "duckdb_estimated_size",
			"value":        float64(i) * 1e21,
			"service_name": "ä\n\"<&>\u2028",
		})
		if err != nil {
			return nil, err
		}
	}
	sent := bytes.Clone(body.Bytes())
	request, err := http.NewRequest(http.MethodPost, os.Args[1], bytes.NewReader(sent))
	if err != nil {
		return nil, err
	}
	request.SetBasicAuth(os.Args[2], os.Args[3])
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return sent, err
}

func main() {
	var group sync.WaitGroup
	var mutex sync.Mutex
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for number := 0; number < 20; number++ {
				sent, err := send(worker, number)
				if err != nil {
					panic(err)
				}
				mutex.Lock()
				os.Stdout.Write(sent)
				mutex.Unlock()
			}
		}()
	}
	group.Wait()
}
