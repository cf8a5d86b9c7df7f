// A server of MongoDB's wire protocol that keeps its data in SQLite: gridfs-server ADDRESS:PORT FOLDER
//
// FerretDB as a library, because its own command does not start when built from the module registry. The last
// version with the SQLite handler is 1.24.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: gridfs-server ADDRESS:PORT FOLDER")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: os.Args[1]},
		Handler:   "sqlite",
		SQLiteURL: "file:" + os.Args[2] + "/",
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
