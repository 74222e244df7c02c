// What a Go program of a plugin does: files, goroutines, timers, the network through the proxy, a child, a signal.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func files(folder string) {
	at := filepath.Join(folder, "made")
	check(os.MkdirAll(at, 0o755))
	from, to := filepath.Join(at, "a"), filepath.Join(at, "b")
	check(os.WriteFile(from, []byte("one two"), 0o644))
	check(os.Truncate(from, 3))
	check(os.Chmod(from, 0o600))
	check(os.Chtimes(from, time.Now(), time.Unix(1, 0)))
	check(os.Rename(from, to))
	check(os.Symlink("b", filepath.Join(at, "c")))
	_, err := os.Readlink(filepath.Join(at, "c"))
	check(err)
	file, err := os.OpenFile(to, os.O_RDWR|os.O_APPEND, 0)
	check(err)
	_, err = file.WriteString("!")
	check(err)
	check(file.Sync())
	_, err = file.Seek(0, io.SeekStart)
	check(err)
	text, err := io.ReadAll(file)
	check(err)
	part := make([]byte, 1)
	_, err = file.ReadAt(part, 1)
	check(err)
	copied, err := os.Create(filepath.Join(at, "d"))
	check(err)
	_, err = file.Seek(0, io.SeekStart)
	check(err)
	_, err = io.Copy(copied, file)
	check(err)
	_, err = copied.WriteAt([]byte("x"), 0)
	check(err)
	check(copied.Truncate(2))
	check(copied.Close())
	check(file.Close())
	check(os.Chdir(at))
	_, err = os.Getwd()
	check(err)
	names, err := os.ReadDir(".")
	check(err)
	check(os.RemoveAll(at))
	fmt.Println(string(text), len(names))
}

func work() {
	var group sync.WaitGroup
	sums := make(chan int, 8)
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func(from int) {
			defer group.Done()
			sum, rubbish := 0, [][]byte{}
			for n := 0; n < 200; n++ {
				rubbish = append(rubbish, make([]byte, 10_000))
				sum += from + len(rubbish) - len(rubbish)
			}
			time.Sleep(time.Millisecond)
			sums <- sum
		}(i)
	}
	group.Wait()
	close(sums)
	all := 0
	for sum := range sums {
		all += sum
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	check(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	select {
	case <-signals:
	case <-time.After(10 * time.Second):
		all = -1
	}
	fmt.Println(all)
}

func main() {
	switch os.Args[1] {
	case "files":
		files(os.Args[2])
	case "work":
		work()
	case "child":
		self, err := os.Executable()
		check(err)
		out, err := exec.Command(self, "work").Output()
		check(err)
		fmt.Print("child: ", string(out))
	case "fetch":
		// Given by hand, because the client sends no loopback address to a proxy that the environment names.
		proxy, err := url.Parse(os.Getenv("HTTP_PROXY"))
		check(err)
		client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
		answer, err := client.Get(os.Args[2])
		check(err)
		body, err := io.ReadAll(answer.Body)
		check(err)
		fmt.Print(answer.StatusCode, " ", string(body))
	case "dial":
		_, err := net.DialTimeout("tcp", os.Args[2], 5*time.Second)
		check(err)
		fmt.Println("connected")
	}
}
